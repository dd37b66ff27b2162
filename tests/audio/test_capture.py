"""A stream from bytes to mono sound; which formats are tried, and in which order."""

from __future__ import annotations

from itertools import count

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stt.audio import capture
from stt.audio.capture import Capture, Format, formats, to_mono
from stt.audio.devices import RATES, Device, rescan
from support.fake_sounddevice import BYTES, FakeSounddevice, PortAudioError, encode

NATIVE = Format(48_000, 1, "float32")


def device(channels: int = 2, rate: int = 48_000) -> Device:
    return Device(0, "desk mic", "ALSA", channels, rate, (), True)


def opened(sd: FakeSounddevice, wanted: Format = NATIVE, rate: int | None = None) -> Capture:
    seconds = count()
    return Capture(sd, device(), wanted, rate, lambda: float(next(seconds)))


def tone(seconds: float, rate: int) -> npt.NDArray[np.float64]:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)


# --- formats ---------------------------------------------------------------------------------


def test_the_native_rate_in_float_and_mono_is_tried_first_then_other_formats_then_rates() -> None:
    tried = [(each.rate, each.channels, each.dtype) for each in formats(device(4, 44_100))]
    assert tried[:4] == [
        (44_100, 1, "float32"),
        (44_100, 2, "float32"),
        (44_100, 4, "float32"),
        (44_100, 1, "int16"),
    ]
    rates = list(dict.fromkeys(rate for rate, _, _ in tried))
    assert rates == [44_100, 48_000, 32_000, 22_050, 16_000, 96_000, 8_000]


@settings(deadline=None)
@given(
    channels=st.integers(1, 40),
    native=st.sampled_from((*RATES, 192_000, 11_025)),
    rate=st.none() | st.sampled_from(RATES),
)
def test_every_format_a_device_may_take_is_tried_once(
    channels: int, native: int, rate: int | None
) -> None:
    tried = list(formats(device(channels, native), rate))
    assert len(set(tried)) == len(tried)
    assert tried[0] == Format(rate or native, 1, "float32")
    assert {each.rate for each in tried} == {*RATES, native}
    assert {each.dtype for each in tried} == set(BYTES)
    assert {each.channels for each in tried} == {1, min(2, channels), channels}
    rest = [each.rate < 16_000 for each in tried if each.rate not in (rate, native)]
    assert rest == sorted(rest), "what is too narrow for speech comes last"


# --- bytes to mono ---------------------------------------------------------------------------


@settings(deadline=None)
@given(
    dtype=st.sampled_from(sorted(BYTES)),
    channels=st.integers(1, 4),
    values=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=30),
)
def test_each_sample_format_gives_the_same_sound(
    dtype: str, channels: int, values: list[float]
) -> None:
    frames = np.array(values[: len(values) // channels * channels]).reshape(-1, channels)
    got = to_mono(np.frombuffer(encode(frames, dtype), np.uint8), dtype, channels)
    step = 0.0 if dtype == "float32" else 2.0 ** (1 - 8 * BYTES[dtype])
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, frames.mean(axis=1), atol=step + 1e-6)


@pytest.mark.parametrize("dtype", ["int16", "int24", "int32"])
def test_full_scale_is_one(dtype: str) -> None:
    got = to_mono(np.frombuffer(encode(np.array([-1.0, 0.0, 1.0]), dtype), np.uint8), dtype, 1)
    assert got[0] == -1.0 and got[1] == 0.0
    assert 1 - 2**-14 < got[2] <= 1.0


def test_a_broken_driver_s_nan_and_infinity_are_silence() -> None:
    data = np.array([0.25, np.nan, np.inf, -np.inf], np.float32).view(np.uint8)
    assert to_mono(data, "float32", 1).tolist() == [0.25, 0.0, 0.0, 0.0]


# --- the stream ------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize(("channels", "dtype"), [(1, "float32"), (2, "int16"), (4, "int24")])
def test_what_the_callback_brought_comes_out_in_order(rate: int, channels: int, dtype: str) -> None:
    sd, sound = FakeSounddevice(), tone(0.5, rate)
    taken = opened(sd, Format(rate, channels, dtype))
    got = []
    for number, part in enumerate(np.array_split(sound, 7)):
        sd.stream.feed(part)
        if number % 3 == 2:
            got += taken.take()
    got += taken.take()
    taken.close()
    assert [chunk.at for chunk in got] == [0, 1, 2, 3, 4, 5, 6]
    assert not any(chunk.dropped or chunk.overflowed for chunk in got)
    np.testing.assert_allclose(np.concatenate([c.samples for c in got]), sound, atol=2**-15)


def test_the_callback_copies_for_portaudio_uses_its_buffer_again() -> None:
    sd = FakeSounddevice()
    taken = opened(sd)
    sd.stream.feed(np.full(10, 0.25))  # `feed` spoils its buffer afterwards
    assert taken.take()[0].samples.tolist() == [0.25] * 10
    taken.close()


@pytest.mark.parametrize("rate", [8_000, 44_100, 96_000])
def test_another_device_s_rate_becomes_that_of_the_first(rate: int) -> None:
    sd = FakeSounddevice()
    taken = opened(sd, Format(rate, 1, "float32"), 48_000)
    for part in np.array_split(tone(1.0, rate), 20):
        sd.stream.feed(part)
    got = taken.take()
    taken.close()
    sound = np.concatenate([chunk.samples for chunk in got + taken.take()])
    assert len(sound) == 48_000, "to the last sample"
    middle = slice(1_000, 47_000)
    np.testing.assert_allclose(sound[middle], tone(1.0, 48_000)[middle], atol=0.01)
    assert taken.take() == []


def test_what_the_ring_has_no_room_for_is_counted_with_what_comes_next() -> None:
    sd, block = FakeSounddevice(), np.full(48_000, 0.1)
    taken = opened(sd)
    for _ in range(round(capture.RING_S)):
        sd.stream.feed(block)
    sd.stream.feed(block)  # full
    sd.stream.feed(block)
    kept = taken.take()
    sd.stream.feed(block)
    sd.stream.feed(block)
    after = taken.take()
    taken.close()
    assert sum(chunk.dropped for chunk in kept) == 0
    assert len(kept) == 30
    assert [chunk.dropped for chunk in after] == [96_000, 0]


def test_dropped_frames_are_counted_at_the_rate_of_the_blocks() -> None:
    sd, block = FakeSounddevice(), np.full(24_000, 0.1)
    taken = opened(sd, Format(24_000, 1, "float32"), 48_000)
    for _ in range(32):
        sd.stream.feed(block)
    taken.take()
    sd.stream.feed(block)
    assert taken.take()[0].dropped == 2 * 48_000
    taken.close()


def test_an_overflow_that_portaudio_tells_of_travels_with_its_frames() -> None:
    sd = FakeSounddevice()
    taken = opened(sd)
    sd.stream.feed(np.zeros(10))
    sd.stream.feed(np.zeros(10), overflow=True)
    assert [chunk.overflowed for chunk in taken.take()] == [False, True]
    taken.close()


def test_it_knows_that_the_stream_ended_by_itself() -> None:
    sd = FakeSounddevice()
    taken = opened(sd)
    assert not taken.ended
    sd.stream.end()
    assert taken.ended
    taken.close()


def test_closing_twice_closes_once_and_what_came_before_can_still_be_taken() -> None:
    sd = FakeSounddevice()
    taken = opened(sd)
    sd.stream.feed(np.full(3, 0.5))
    taken.close()
    taken.close()
    assert sd.stream.closed
    assert taken.take()[0].samples.tolist() == [0.5] * 3


def test_no_rescan_while_a_stream_is_open_and_again_after_it_was_closed() -> None:
    sd = FakeSounddevice()
    taken = opened(sd)
    rescan(sd)
    assert sd.scans == 0
    taken.close()
    rescan(sd)
    assert sd.scans == 1


def test_a_stream_that_does_not_start_is_closed_and_counted_no_more() -> None:
    sd = FakeSounddevice()
    sd.fails_to_start = True
    with pytest.raises(PortAudioError, match="starting"):
        opened(sd)
    assert sd.stream.closed
    rescan(sd)
    assert sd.scans == 1


def test_the_stream_counts_as_open_until_it_is_closed() -> None:
    """Otherwise another thread's rescan would free what `close` is about to use."""
    sd = FakeSounddevice()
    taken = opened(sd)
    close = sd.stream.close

    def rescanned(ignore_errors: bool) -> None:
        rescan(sd)
        close(ignore_errors)

    sd.stream.close = rescanned  # type: ignore[method-assign]
    taken._open.close()  # the stream's method was bound when it opened
    assert sd.scans == 0
