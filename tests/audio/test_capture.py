"""A stream from bytes to mono sound, the formats tried, and a backlog that drops nothing."""

from __future__ import annotations

import threading
from collections import deque
from itertools import count
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stt.audio import capture
from stt.audio.capture import Backlog, Capture, Format, formats, to_mono
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
    got = to_mono(encode(frames, dtype), dtype, channels)
    step = 0.0 if dtype == "float32" else 2.0 ** (1 - 8 * BYTES[dtype])
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, frames.mean(axis=1), atol=step + 1e-6)


def test_full_scale_is_one_and_a_broken_driver_s_nan_and_infinity_are_silence() -> None:
    for dtype in ("int16", "int24", "int32"):
        got = to_mono(encode(np.array([-1.0, 0.0, 1.0]), dtype), dtype, 1)
        assert got[0] == -1.0 and got[1] == 0.0
        assert 1 - 2**-14 < got[2] <= 1.0
    data = np.array([0.25, np.nan, np.inf, -np.inf], np.float32)
    assert to_mono(data.tobytes(), "float32", 1).tolist() == [0.25, 0.0, 0.0, 0.0]


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


@pytest.mark.parametrize("rate", [4_000, 8_000])
def test_what_there_is_no_room_for_is_counted_at_the_rate_of_the_blocks(rate: int) -> None:
    sd, block = FakeSounddevice(), np.full(rate, 0.1)
    taken = opened(sd, Format(rate, 1, "float32"), 8_000)
    for _ in range(round(capture.QUEUE_S) + 2):
        sd.stream.feed(block)
    kept = taken.take()
    sd.stream.feed(block)
    sd.stream.feed(block)
    after = taken.take()
    taken.close()
    assert sum(chunk.dropped for chunk in kept) == 0
    assert len(kept) == 30
    assert [chunk.dropped for chunk in after] == [16_000, 0]


def test_what_came_before_the_end_can_be_taken_and_closing_twice_closes_once() -> None:
    sd = FakeSounddevice()
    taken = opened(sd)
    sd.stream.feed(np.full(3, 0.25))  # `feed` spoils its buffer afterwards, as PortAudio does
    sd.stream.feed(np.full(3, 0.5), overflow=True)
    assert not taken.ended
    sd.stream.end()
    assert taken.ended, "by itself"
    taken.close()
    taken.close()
    assert sd.stream.closed
    first, second = taken.take()
    assert (first.samples.tolist(), second.samples.tolist()) == ([0.25] * 3, [0.5] * 3)
    assert (first.overflowed, second.overflowed) == (False, True)


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


# --- the backlog -----------------------------------------------------------------------------


def got(backlog: Backlog) -> tuple[object, list[float] | None]:
    item = backlog.get(timeout=5)
    assert item is not None
    what, samples = item
    return what, None if samples is None else samples.tolist()


@settings(deadline=None)
@given(
    limit=st.integers(0, 30),
    steps=st.lists(st.one_of(st.none(), st.integers(0, 12), st.just("event")), max_size=60),
)
def test_nothing_is_dropped_and_order_is_kept_whatever_the_limit(
    limit: int, steps: list[int | str | None]
) -> None:
    backlog, waiting, following = Backlog(limit), deque[tuple[object, list[float] | None]](), 0
    for number, step in enumerate(steps):
        if step is None:  # take one
            if waiting:
                assert got(backlog) == waiting.popleft()
        elif isinstance(step, str):
            backlog.put(step)
            waiting.append((step, None))
        else:
            samples = np.arange(following, following + step, dtype=np.float32)
            following += step
            backlog.put(number, samples)
            waiting.append((number, samples.tolist()))
        assert backlog.samples == sum(len(held) for _, held in waiting if held is not None)
    while waiting:
        assert got(backlog) == waiting.popleft()
    assert backlog.get(timeout=0) is None
    backlog.close()


def test_memory_stays_while_a_slow_consumer_falls_behind(tmp_path: Path) -> None:
    import tracemalloc

    backlog, block = Backlog(10_000, tmp_path), np.ones(1_000, np.float32)
    for number in range(20):
        backlog.put(number, block.copy())
    tracemalloc.start()
    for number in range(20, 2_020):  # 8 MB
        backlog.put(number, block.copy())
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 1_000_000
    assert backlog.samples == 2_020_000
    assert [got(backlog)[0] for _ in range(2_020)] == list(range(2_020))
    backlog.close()


def test_the_file_is_given_back_when_the_consumer_has_caught_up(tmp_path: Path) -> None:
    backlog = Backlog(0, tmp_path)
    for _ in range(3):
        backlog.put("a", np.ones(100, np.float32))
        backlog.put("b", np.ones(100, np.float32))
        assert [got(backlog)[0], got(backlog)[0]] == ["a", "b"]
        assert backlog._file is not None and backlog._file.seek(0, 2) == 0
    backlog.close()
    assert list(tmp_path.iterdir()) == []


def test_memory_does_where_the_disk_refuses(tmp_path: Path) -> None:
    backlog = Backlog(2, tmp_path / "not there")
    for number in range(5):
        backlog.put(number, np.full(3, number, np.float32))
    assert [got(backlog) for _ in range(5)] == [(n, [float(n)] * 3) for n in range(5)]


class FullDisk:
    """A file that takes `room` bytes, and of the write beyond them a part."""

    def __init__(self, real: object, room: int) -> None:
        self._real, self._room = real, room

    def write(self, data: bytes) -> int:
        part = data[: max(0, self._room)]
        self._room -= len(part)
        return int(self._real.write(part))  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


def test_a_disk_that_takes_half_a_block_spoils_nothing(tmp_path: Path) -> None:
    backlog = Backlog(0, tmp_path)
    backlog.put(0, np.full(4, 0, np.float32))
    backlog._file = FullDisk(backlog._file, room=24)  # type: ignore[assignment]
    for number in range(1, 5):
        backlog.put(number, np.full(4, number, np.float32))
    assert [got(backlog) for _ in range(5)] == [(n, [float(n)] * 4) for n in range(5)]
    backlog.close()


def test_get_wakes_for_what_another_thread_puts() -> None:
    backlog = Backlog(10)
    threading.Timer(0.05, backlog.put, ["late"]).start()
    assert backlog.get(timeout=30) == ("late", None)


@pytest.mark.parametrize("limit", [0, 100])
def test_closed_it_gives_the_end_and_nothing_else(limit: int) -> None:
    backlog = Backlog(limit)
    backlog.put("waits", np.ones(5, np.float32))
    backlog.close()
    assert backlog.get(timeout=0) == (None, None)
    assert backlog.samples == 0
