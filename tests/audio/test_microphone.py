"""The microphone with a sound card made of Python: blocks, problems, and the recording."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import soundfile

from stt.audio import microphone as module
from stt.audio.files import open_audio
from stt.audio.microphone import Block
from stt.audio.sound_check import Trouble
from stt.errors import AudioError, OutputError, UsageError
from stt.types import Samples
from support.desk import RATE, Desk, all_of, joined, kinds, noise
from support.fake_sounddevice import UNAVAILABLE, PortAudioError, entry

# --- sound -----------------------------------------------------------------------------------


def test_blocks_hold_what_was_said_in_order_from_the_first_sample(desk: Desk) -> None:
    sound = noise(2.0)
    with desk.listening() as microphone:
        desk.speak(sound, block=1_000)
        blocks, problems = all_of(microphone)
        assert problems == []
        assert microphone.rate == RATE
        assert microphone.lost == 0
        assert microphone.seconds == 2.0
    assert blocks[0].start_sample == 0
    np.testing.assert_array_equal(joined(blocks), sound)


@pytest.mark.parametrize(
    ("rate", "channels", "dtype"),
    [
        (8_000, 1, "int16"),
        (44_100, 2, "int16"),
        (48_000, 4, "int24"),
        (96_000, 2, "int24"),
        (16_000, 1, "int32"),
    ],
)
def test_a_device_is_opened_in_the_one_format_it_takes(
    desk: Desk, rate: int, channels: int, dtype: str
) -> None:
    desk.sd.devices = [entry("odd mic", channels=channels, rate=rate)]
    only = {"samplerate": rate, "channels": channels, "dtype": dtype}
    desk.sd.accepts = lambda asked: only.items() <= asked.items()
    sound = noise(1.0, rate)
    with desk.listening() as microphone:
        desk.speak(sound)
        blocks, _ = all_of(microphone)
        used = microphone.format
        assert (used.rate, used.channels, used.dtype, microphone.rate) == (
            *(rate, channels, dtype),
            rate,
        )
    np.testing.assert_allclose(joined(blocks), sound, atol=2**-15)


def test_a_slow_consumer_gets_all_of_it_and_memory_is_bounded(desk: Desk) -> None:
    desk.patch(module, "BACKLOG_S", 0.5)
    sound = noise(10.0)
    with desk.listening() as microphone:
        desk.speak(sound)
        blocks, _ = all_of(microphone)
    np.testing.assert_array_equal(joined(blocks), sound)


def test_blocks_come_while_it_listens_and_end_after_stop_from_another_thread(desk: Desk) -> None:
    with desk.listening() as microphone:
        items = microphone.blocks()
        desk.speak(noise(0.05))
        assert isinstance(next(items), Block)
        threading.Timer(0.05, microphone.stop).start()
        assert list(items) == []
        assert list(microphone.blocks()) == [], "and a second time"


def test_closed_while_somebody_still_reads_it_ends(desk: Desk) -> None:
    desk.patch(module, "BACKLOG_S", 0.0)
    with desk.listening() as microphone:
        items = microphone.blocks()
        desk.speak(noise(1.0))
        assert isinstance(next(items), Block)
    assert list(items) == []


def test_a_fault_in_the_pump_is_raised_and_the_recording_kept(desk: Desk) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("surprise")

    microphone = desk.listening()
    with microphone:
        desk.speak(noise(0.1))
        items = microphone.blocks()
        next(items)
        desk.patch(microphone, "_pass_on", broken)
        desk.speak(noise(0.1))
        with pytest.raises(AudioError, match="surprise") as caught:
            list(items)
        assert isinstance(caught.value.__cause__, RuntimeError)
    assert microphone.recording is not None and microphone.recording.path.exists()


def test_it_stops_by_itself_when_enough_is_captured(desk: Desk) -> None:
    with desk.listening(limit_s=1.0) as microphone:
        for _ in range(12):
            desk.speak(noise(0.1))
        heard = sum(len(b.samples) for b in microphone.blocks() if isinstance(b, Block))
    assert heard >= microphone.rate


def test_a_recording_without_sound_is_not_kept_when_something_fails(desk: Desk) -> None:
    with pytest.raises(ValueError, match="early"), desk.listening() as microphone:
        raise ValueError("early")
    assert microphone.recording is not None
    assert not microphone.recording.path.exists()


# --- the recording ---------------------------------------------------------------------------


def test_what_a_block_holds_is_in_the_recording_before_the_block_is_there(desk: Desk) -> None:
    with desk.listening() as microphone:
        assert microphone.recording is not None
        items = microphone.blocks()
        for _ in range(20):
            desk.speak(noise(0.1))
            block = next(items)
            assert isinstance(block, Block)
            end = block.start_sample + len(block.samples)
            assert microphone.recording.samples >= end


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("asked", [False, True])
def test_it_is_deleted_at_a_good_end_and_stays_after_any_other_or_where_it_is_asked(
    desk: Desk, error: type[BaseException] | None, asked: bool
) -> None:
    with suppress(ValueError, KeyboardInterrupt), desk.listening() as microphone:
        desk.speak(noise(0.2))
        all_of(microphone)
        assert len(list(desk.state.iterdir())) == 1
        if asked:
            microphone.keep_recording()
        if error:
            raise error
    left = [soundfile.info(path).frames for path in desk.state.iterdir()]
    assert left == ([round(0.2 * RATE)] if error or asked else [])


@pytest.mark.parametrize("fails", [False, True])
def test_it_gets_the_name_asked_for_also_after_an_exception(desk: Desk, fails: bool) -> None:
    keep = desk.folder / "talk.flac"
    with suppress(ValueError), desk.listening(keep=keep) as microphone:
        desk.speak(noise(0.3))
        all_of(microphone)
        if fails:
            raise ValueError
    assert list(desk.state.iterdir()) == []
    np.testing.assert_allclose(soundfile.read(keep)[0], noise(0.3), atol=2 / 32_768)


def test_a_name_it_cannot_have_is_refused_before_anything_is_opened(desk: Desk) -> None:
    with pytest.raises(UsageError, match=r"\.flac"):
        desk.listening(keep=desk.folder / "talk.mp3")
    assert desk.sd.streams == []


def test_without_a_recording_nothing_is_written(desk: Desk) -> None:
    with desk.listening(record=False) as microphone:
        desk.speak(noise(0.2))
        blocks, _ = all_of(microphone)
    assert len(joined(blocks)) == round(0.2 * RATE)
    assert not desk.state.exists()


@contextmanager
def a_disk_that_is_full_at(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes."""
    resource = pytest.importorskip("resource", reason="a limit of the file size is POSIX's")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_reported_once_and_listening_goes_on(desk: Desk) -> None:
    sound = noise(2.0)
    with desk.listening() as microphone:
        assert microphone.recording is not None
        items = microphone.blocks()
        desk.speak(sound[:RATE])
        heard: list[Block] = []
        while sum(len(block.samples) for block in heard) < RATE:
            block = next(items)
            assert isinstance(block, Block)
            heard.append(block)

        with a_disk_that_is_full_at(microphone.recording.path.stat().st_size + 10_000):
            desk.speak(sound[RATE:])
            rest, problems = all_of(microphone)
        np.testing.assert_array_equal(joined(heard + rest), sound)
        assert kinds(problems) == [Trouble.RECORDING.value]
        assert "the disk may be full; make room" in problems[0].message
    (left,) = desk.state.iterdir()
    with open_audio(left) as audio:
        assert sum(len(part) for part in audio.blocks) > 0.8 * RATE


# --- bad sound -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sound", "kind", "cure"),
    [
        (np.zeros(4 * RATE, np.float32), Trouble.SILENCE, "unmute it"),
        (noise(4.0) / 1_000, Trouble.LOW, "raise its level"),
        (np.sign(noise(4.0)), Trouble.CLIPPING, "lower its level"),
    ],
)
def test_bad_sound_is_reported_after_three_seconds_with_what_to_do(
    desk: Desk, sound: Samples, kind: Trouble, cure: str
) -> None:
    with desk.listening() as microphone:
        desk.speak(sound)
        _, (problem,) = all_of(microphone)
    assert problem.kind == kind.value
    assert problem.at == pytest.approx(3.0, abs=0.1)
    assert "'desk mic'" in problem.message and cure in problem.message
    assert "\n" not in problem.message


@pytest.mark.parametrize("name", ["Monitor of Built-in Audio", "Stereo Mix (Realtek)"])
def test_an_input_that_carries_what_the_computer_plays_is_named(desk: Desk, name: str) -> None:
    desk.sd.devices = [entry(name)]
    with desk.listening() as microphone:
        _, (problem,) = all_of(microphone)
    assert problem.kind == Trouble.NOT_A_MICROPHONE.value
    assert "stt devices" in problem.message


def test_the_level_is_there_while_it_listens(desk: Desk) -> None:
    with desk.listening() as microphone:
        assert microphone.level.peak_db == -120
        desk.speak(np.full(RATE, 0.1, np.float32))
        all_of(microphone)
        assert microphone.level.rms_db == pytest.approx(-20, abs=0.1)


# --- opening ---------------------------------------------------------------------------------


def test_a_device_that_takes_no_format_is_one_line_with_the_cure(desk: Desk) -> None:
    desk.sd.accepts = lambda asked: False
    with pytest.raises(AudioError, match="'desk mic' cannot be opened") as caught, desk.listening():
        pass
    assert "Invalid sample rate" in str(caught.value)
    assert "close other programs" in str(caught.value)
    assert len(set(desk.sd.tried)) == len(desk.sd.tried) > 50
    assert not desk.state.exists()


def test_a_busy_device_is_not_asked_in_every_format(desk: Desk) -> None:
    desk.sd.accepts, desk.sd.refusal = (
        lambda asked: False,
        PortAudioError("Unavailable", UNAVAILABLE),
    )
    with pytest.raises(AudioError, match="Unavailable"), desk.listening():
        pass
    assert len(desk.sd.tried) == 1


def test_where_the_recording_cannot_be_made_the_device_is_closed_again(desk: Desk) -> None:
    desk.state.touch()
    with pytest.raises(OutputError), desk.listening():
        pass
    assert desk.sd.stream.closed


def test_two_microphones_of_one_program_do_not_disturb_each_other(desk: Desk) -> None:
    sound = noise(0.5)
    with desk.listening() as first, desk.listening() as second:
        for stream in desk.sd.streams:
            stream.feed(sound)
        for microphone in (first, second):
            blocks, _ = all_of(microphone)
            np.testing.assert_array_equal(joined(blocks), sound)
            assert not math.isinf(microphone.level.rms_db)
