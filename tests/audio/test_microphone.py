"""The microphone with a sound card made of Python: blocks, problems, and the recording."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pytest
import soundfile

from stt.audio import microphone as module
from stt.audio.files import open_audio
from stt.audio.microphone import Block, Microphone
from stt.audio.sound_check import Trouble
from stt.errors import AudioError, OutputError, UsageError
from stt.events import Problem
from support.fake_sounddevice import UNAVAILABLE, FakeSounddevice, PortAudioError, entry

Samples = npt.NDArray[np.float32]

RATE = 48_000
BLOCK = RATE // 20


class Clock:
    """The wall clock, set by the test."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.005)
    monkeypatch.setattr(module, "RETRY_S", 0.01)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sd() -> FakeSounddevice:
    return FakeSounddevice()


Open = Callable[..., Microphone]


@pytest.fixture
def listening(sd: FakeSounddevice, clock: Clock, tmp_path: Path) -> Iterator[Open]:
    """Make a microphone whose recording lies in tmp_path/state."""
    made: list[Microphone] = []

    def make(device: str | int | None = None, **more: Any) -> Microphone:
        options: dict[str, Any] = {"folder": tmp_path / "state", "sd": sd, "clock": clock} | more
        made.append(Microphone(device, **options))
        return made[-1]

    yield make
    for microphone in made:
        microphone.close()


def noise(seconds: float, rate: int = RATE) -> Samples:
    values = np.random.default_rng(0).uniform(-0.3, 0.3, round(seconds * rate))
    return values.astype(np.float32)


def speak(sd: FakeSounddevice, clock: Clock, sound: Samples, block: int = BLOCK) -> None:
    """Give it to the callback at the time it would come."""
    for start in range(0, len(sound), block):
        part = sound[start : start + block]
        clock.now += len(part) / sd.stream.rate
        sd.stream.feed(part)


def all_of(microphone: Microphone) -> tuple[list[Block], list[Problem]]:
    """Stop, and return what is left."""
    microphone.stop()
    items = list(microphone.blocks())
    return [i for i in items if isinstance(i, Block)], [i for i in items if isinstance(i, Problem)]


def joined(blocks: list[Block]) -> Samples:
    """The sound, zeros where some was lost; checks that the places fit."""
    parts, place = [], 0
    for block in blocks:
        assert block.start_sample == place + block.lost
        place = block.start_sample + len(block.samples)
        parts += [np.zeros(block.lost, np.float32), block.samples]
    return np.concatenate(parts)


def until(items: Iterator[Block | Problem], kind: Trouble) -> Problem:
    """Take items up to the first problem of this kind."""
    return next(i for i in items if isinstance(i, Problem) and i.kind == kind.value)


def opened_again(sd: FakeSounddevice) -> None:
    """Wait until a second stream runs."""
    deadline = time.monotonic() + 60
    while len(sd.streams) < 2 or not sd.stream.running:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def kinds(problems: list[Problem]) -> list[str]:
    return [problem.kind for problem in problems]


# --- sound -----------------------------------------------------------------------------------


def test_blocks_hold_what_was_said_in_order_from_the_first_sample(
    sd: FakeSounddevice, clock: Clock, listening: Open
) -> None:
    sound = noise(2.0)
    with listening() as microphone:
        speak(sd, clock, sound, block=1_000)
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
    sd: FakeSounddevice, clock: Clock, listening: Open, rate: int, channels: int, dtype: str
) -> None:
    sd.devices = [entry("odd mic", channels=channels, rate=rate)]
    only = {"samplerate": rate, "channels": channels, "dtype": dtype}
    sd.accepts = lambda asked: only.items() <= asked.items()
    sound = noise(1.0, rate)
    with listening() as microphone:
        speak(sd, clock, sound)
        blocks, _ = all_of(microphone)
        used = microphone.format
        assert (used.rate, used.channels, used.dtype, microphone.rate) == (
            *(rate, channels, dtype),
            rate,
        )
    np.testing.assert_allclose(joined(blocks), sound, atol=2**-15)


def test_a_slow_consumer_gets_all_of_it_and_memory_is_bounded(
    sd: FakeSounddevice, clock: Clock, listening: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKLOG_S", 0.5)
    sound = noise(10.0)
    with listening() as microphone:
        speak(sd, clock, sound)
        blocks, _ = all_of(microphone)
    np.testing.assert_array_equal(joined(blocks), sound)


def test_blocks_come_while_it_listens_and_end_after_stop_from_another_thread(
    sd: FakeSounddevice, clock: Clock, listening: Open
) -> None:
    with listening() as microphone:
        items = microphone.blocks()
        speak(sd, clock, noise(0.05))
        assert isinstance(next(items), Block)
        threading.Timer(0.05, microphone.stop).start()
        assert list(items) == []
        assert list(microphone.blocks()) == [], "and a second time"


def test_closed_while_somebody_still_reads_it_ends(
    sd: FakeSounddevice, clock: Clock, listening: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKLOG_S", 0.0)
    with listening() as microphone:
        items = microphone.blocks()
        speak(sd, clock, noise(1.0))
        assert isinstance(next(items), Block)
    assert list(items) == []


def test_a_fault_in_the_pump_is_raised_to_the_reader_and_the_recording_kept(
    sd: FakeSounddevice, clock: Clock, listening: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("surprise")

    microphone = listening()
    with microphone:
        speak(sd, clock, noise(0.1))
        items = microphone.blocks()
        next(items)
        monkeypatch.setattr(microphone, "_pass_on", broken)
        speak(sd, clock, noise(0.1))
        with pytest.raises(AudioError, match="surprise") as told:
            list(items)
        assert isinstance(told.value.__cause__, RuntimeError)
    assert microphone.recording is not None and microphone.recording.path.exists()


def test_it_stops_by_itself_when_enough_is_captured(
    sd: FakeSounddevice, clock: Clock, listening: Open
) -> None:
    with listening(limit_s=1.0) as microphone:
        for _ in range(12):
            speak(sd, clock, noise(0.1))
        heard = sum(len(b.samples) for b in microphone.blocks() if isinstance(b, Block))
    assert heard >= microphone.rate


def test_a_recording_without_sound_is_not_kept_when_something_fails(listening: Open) -> None:
    with pytest.raises(ValueError, match="early"), listening() as microphone:
        raise ValueError("early")
    assert microphone.recording is not None
    assert not microphone.recording.path.exists()


# --- the recording ---------------------------------------------------------------------------


def test_what_a_block_holds_is_in_the_recording_before_the_block_is_there(
    sd: FakeSounddevice, clock: Clock, listening: Open
) -> None:
    with listening() as microphone:
        assert microphone.recording is not None
        items = microphone.blocks()
        for _ in range(20):
            speak(sd, clock, noise(0.1))
            block = next(items)
            assert isinstance(block, Block)
            end = block.start_sample + len(block.samples)
            assert microphone.recording.samples >= end


def test_the_recording_is_deleted_at_a_good_end(
    sd: FakeSounddevice, clock: Clock, listening: Open, tmp_path: Path
) -> None:
    with listening() as microphone:
        speak(sd, clock, noise(0.2))
        all_of(microphone)
        assert len(list((tmp_path / "state").iterdir())) == 1
    assert list((tmp_path / "state").iterdir()) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_it_stays_after_an_exception(
    sd: FakeSounddevice,
    clock: Clock,
    listening: Open,
    tmp_path: Path,
    error: type[BaseException],
) -> None:
    def failing() -> None:
        with listening():
            speak(sd, clock, noise(0.2))
            raise error

    with pytest.raises(error):
        failing()
    (left,) = (tmp_path / "state").iterdir()
    assert soundfile.info(left).frames == round(0.2 * RATE)


def test_it_stays_where_the_program_says_so(
    sd: FakeSounddevice, clock: Clock, listening: Open, tmp_path: Path
) -> None:
    with listening() as microphone:
        speak(sd, clock, noise(0.2))
        microphone.keep_recording()
    assert len(list((tmp_path / "state").iterdir())) == 1


@pytest.mark.parametrize("fails", [False, True])
def test_it_gets_the_name_asked_for_also_after_an_exception(
    sd: FakeSounddevice, clock: Clock, listening: Open, tmp_path: Path, fails: bool
) -> None:
    keep = tmp_path / "talk.flac"
    try:
        with listening(keep=keep) as microphone:
            speak(sd, clock, noise(0.3))
            all_of(microphone)
            if fails:
                raise ValueError
    except ValueError:
        pass
    assert list((tmp_path / "state").iterdir()) == []
    np.testing.assert_allclose(soundfile.read(keep)[0], noise(0.3), atol=2 / 32_768)


def test_a_name_it_cannot_have_is_told_before_anything_is_opened(
    sd: FakeSounddevice, listening: Open, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"\.flac"):
        listening(keep=tmp_path / "talk.mp3")
    assert sd.streams == []


def test_without_a_recording_nothing_is_written(
    sd: FakeSounddevice, clock: Clock, listening: Open, tmp_path: Path
) -> None:
    with listening(record=False) as microphone:
        speak(sd, clock, noise(0.2))
        blocks, _ = all_of(microphone)
    assert len(joined(blocks)) == round(0.2 * RATE)
    assert not (tmp_path / "state").exists()


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


def test_a_full_disk_is_told_once_and_listening_goes_on(
    sd: FakeSounddevice, clock: Clock, listening: Open, tmp_path: Path
) -> None:
    sound = noise(2.0)
    with listening() as microphone:
        assert microphone.recording is not None
        items = microphone.blocks()
        speak(sd, clock, sound[:RATE])
        heard: list[Block] = []
        while sum(len(block.samples) for block in heard) < RATE:
            block = next(items)
            assert isinstance(block, Block)
            heard.append(block)

        with a_disk_that_is_full_at(microphone.recording.path.stat().st_size + 10_000):
            speak(sd, clock, sound[RATE:])
            rest, problems = all_of(microphone)
        np.testing.assert_array_equal(joined(heard + rest), sound)
        assert kinds(problems) == [Trouble.RECORDING.value]
        assert "the disk may be full; make room" in problems[0].message
    (left,) = (tmp_path / "state").iterdir()
    with open_audio(left) as audio:
        assert sum(len(part) for part in audio.blocks) > 0.8 * RATE


# --- lost sound ------------------------------------------------------------------------------


def test_an_overrun_that_portaudio_reports_is_told_once_in_ten_seconds(
    sd: FakeSounddevice, clock: Clock, listening: Open
) -> None:
    with listening() as microphone:
        for number in range(8):
            clock.now += 0.5
            sd.stream.feed(noise(0.5), overflow=number in (2, 4))
        speak(sd, clock, noise(9.0))
        sd.stream.feed(noise(0.1), overflow=True)
        blocks, problems = all_of(microphone)
        assert kinds(problems) == 2 * [Trouble.OVERRUN.value], "again after ten seconds without"
        assert "close other programs" in problems[0].message
    assert len(joined(blocks)) == round(13.1 * RATE)


def test_sound_missing_without_a_word_is_found_by_the_clock_and_is_silence_in_the_recording(
    sd: FakeSounddevice, clock: Clock, listening: Open, tmp_path: Path
) -> None:
    keep = tmp_path / "talk.flac"
    with listening(keep=keep) as microphone:
        speak(sd, clock, noise(3.0))
        clock.now += 2.0
        speak(sd, clock, noise(8.0))
        blocks, problems = all_of(microphone)
        assert microphone.lost == pytest.approx(2.0 * RATE, abs=0.1 * RATE)
        assert microphone.seconds == pytest.approx(13.0, abs=0.1)
        assert "2.0 s of sound was lost" in problems[0].message
        assert kinds(problems) == [Trouble.OVERRUN.value]
    heard = joined(blocks)
    np.testing.assert_allclose(soundfile.read(keep)[0], heard, atol=2 / 32_768)


def test_one_overrun_told_by_portaudio_and_found_by_the_clock_counts_once(
    sd: FakeSounddevice, clock: Clock, listening: Open
) -> None:
    with listening() as microphone:
        speak(sd, clock, noise(3.0))
        clock.now += 1.05
        sd.stream.feed(noise(0.05), overflow=True)
        speak(sd, clock, noise(8.0))
        _, problems = all_of(microphone)
        assert microphone.lost == pytest.approx(RATE, abs=0.1 * RATE)
    assert kinds(problems) == [Trouble.OVERRUN.value]


def test_what_the_ring_could_not_hold_is_counted_exactly(
    sd: FakeSounddevice, clock: Clock, listening: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_S", 3.0)  # a pump that is kept away
    with listening() as microphone:
        speak(sd, clock, noise(30.5), block=RATE // 4)
        deadline = time.monotonic() + 60
        while microphone.seconds < 30.0 and time.monotonic() < deadline:
            time.sleep(0.05)
        speak(sd, clock, noise(1.0))
        blocks, problems = all_of(microphone)
        assert microphone.lost == RATE // 2
    assert kinds(problems) == [Trouble.OVERRUN.value]
    assert "0.5 s of sound was lost" in problems[0].message
    assert len(joined(blocks)) == round(31.5 * RATE)


def test_an_hour_faster_than_real_time_neither_drifts_nor_grows(
    sd: FakeSounddevice, clock: Clock, listening: Open
) -> None:
    """A crystal 50 millionths slow; the blocks come up to 30 ms late."""
    rate, step = 8_000, 0.5 * (1 + 50e-6)
    sd.devices = [entry("slow mic", rate=rate)]
    late = np.random.default_rng(2).uniform(0, 0.03, 7_200)
    block = noise(0.5, rate)
    with listening() as microphone:
        items, began, count, memory = microphone.blocks(), clock.now, 0, 0
        for batch in range(360):
            for number in range(20 * batch, 20 * batch + 20):
                clock.now = began + (number + 1) * step + float(late[number])
                sd.stream.feed(block)
            for _ in range(20):
                item = next(items)
                assert isinstance(item, Block)
                assert item.start_sample == count and item.lost == 0
                count += len(item.samples)
            if batch == 60:
                memory = psutil.Process().memory_info().rss
        grown = psutil.Process().memory_info().rss - memory
        assert microphone.seconds == 3_600.0
        assert microphone.lost == 0
        assert grown < 20e6, "50 minutes of this sound are 96 MB"


# --- bad sound -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sound", "kind", "cure"),
    [
        (np.zeros(4 * RATE, np.float32), Trouble.SILENCE, "unmute it"),
        (noise(4.0) / 1_000, Trouble.LOW, "raise its level"),
        (np.sign(noise(4.0)), Trouble.CLIPPING, "lower its level"),
    ],
)
def test_bad_sound_is_told_after_three_seconds_with_what_to_do(
    sd: FakeSounddevice,
    clock: Clock,
    listening: Open,
    sound: Samples,
    kind: Trouble,
    cure: str,
) -> None:
    with listening() as microphone:
        speak(sd, clock, sound)
        _, (problem,) = all_of(microphone)
    assert problem.kind == kind.value
    assert problem.at == pytest.approx(3.0, abs=0.1)
    assert "'desk mic'" in problem.message and cure in problem.message
    assert "\n" not in problem.message


@pytest.mark.parametrize("name", ["Monitor of Built-in Audio", "Stereo Mix (Realtek)"])
def test_an_input_that_carries_what_the_computer_plays_is_told_at_once(
    sd: FakeSounddevice, listening: Open, name: str
) -> None:
    sd.devices = [entry(name)]
    with listening() as microphone:
        _, (problem,) = all_of(microphone)
    assert problem.kind == Trouble.NOT_A_MICROPHONE.value
    assert "stt devices" in problem.message


def test_the_level_is_there_while_it_listens(
    sd: FakeSounddevice, clock: Clock, listening: Open
) -> None:
    with listening() as microphone:
        assert microphone.level.peak_db == -120
        speak(sd, clock, np.full(RATE, 0.1, np.float32))
        all_of(microphone)
        assert microphone.level.rms_db == pytest.approx(-20, abs=0.1)


# --- devices that go and come ----------------------------------------------------------------


def test_unplugged_and_plugged_in_again_it_goes_on_and_the_count_follows_the_clock(
    sd: FakeSounddevice, clock: Clock, listening: Open, tmp_path: Path
) -> None:
    keep, sound = tmp_path / "talk.flac", noise(2.0)
    with listening("desk", keep=keep) as microphone:
        items = microphone.blocks()
        speak(sd, clock, sound[:RATE])
        plugged, sd.devices = sd.devices, [entry("other mic")]
        sd.stream.end()
        lost = until(items, Trouble.LOST)
        assert lost.at == 1.0
        assert "'desk mic' is gone" in lost.message and "plug it in again" in lost.message
        clock.now += 5.0
        time.sleep(0.1)  # some looks at what is there
        assert len(sd.streams) == 1, "another microphone is not what was asked for"
        sd.devices = [entry("other mic"), *plugged]
        opened_again(sd)
        speak(sd, clock, sound[RATE:])
        back = until(items, Trouble.BACK)
        assert back.at == pytest.approx(6.0, abs=0.06)
        rest, problems = all_of(microphone)
        assert problems == []
        assert rest[0].lost == pytest.approx(5 * RATE, abs=1)
        np.testing.assert_array_equal(np.concatenate([b.samples for b in rest]), sound[RATE:])
        assert microphone.seconds == pytest.approx(7.0)
        assert microphone.device.index == 1
    recorded = soundfile.read(keep)[0]
    np.testing.assert_allclose(recorded[:RATE], sound[:RATE], atol=2 / 32_768)
    np.testing.assert_allclose(recorded[6 * RATE :], sound[RATE:], atol=2 / 32_768)
    assert not recorded[RATE : 6 * RATE].any()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("USB Audio: - (hw:1,0)", "USB Audio: - (hw:2,0)"),
        ("Microphone (USB Audio)", "Microphone (2- USB Audio)"),
    ],
)
def test_a_device_is_known_again_in_another_socket(
    sd: FakeSounddevice, clock: Clock, listening: Open, before: str, after: str
) -> None:
    sd.devices = [entry(before)]
    with listening(0) as microphone:
        items = microphone.blocks()
        speak(sd, clock, noise(0.1))
        sd.devices = [entry("Built-in"), entry(after)]
        sd.stream.end()
        until(items, Trouble.LOST)
        opened_again(sd)
        speak(sd, clock, noise(0.1))
        until(items, Trouble.BACK)
        assert microphone.device.name == after


def test_where_the_default_went_the_new_default_is_taken_at_the_rate_of_the_first(
    sd: FakeSounddevice, clock: Clock, listening: Open
) -> None:
    with listening() as microphone:
        items = microphone.blocks()
        speak(sd, clock, noise(1.0))
        sd.devices = [entry("Monitor of 44.1 kHz", rate=44_100)]
        sd.accepts = lambda asked: bool(asked["samplerate"] == 44_100)
        sd.stream.end()
        until(items, Trouble.LOST)
        opened_again(sd)
        speak(sd, clock, noise(1.0, 44_100))
        assert "'Monitor of 44.1 kHz'" in until(items, Trouble.BACK).message
        rest, problems = all_of(microphone)
        assert kinds(problems) == [Trouble.NOT_A_MICROPHONE.value]
        assert microphone.rate == RATE
        assert microphone.format.rate == 44_100
        assert sum(len(block.samples) for block in rest) == RATE


def test_a_default_that_is_listed_but_refuses_gives_way_to_the_next(
    sd: FakeSounddevice, clock: Clock, listening: Open
) -> None:
    with listening() as microphone:
        items = microphone.blocks()
        speak(sd, clock, noise(0.1))
        sd.devices, sd.default = [entry("desk mic"), entry("new default")], 1
        sd.refusal = PortAudioError("Device unavailable", UNAVAILABLE)
        sd.accepts = lambda asked: bool(asked["device"] == 1)
        sd.stream.end()
        until(items, Trouble.LOST)
        opened_again(sd)
        speak(sd, clock, noise(0.1))
        assert "'new default'" in until(items, Trouble.BACK).message


def test_a_sound_system_that_stops_is_waited_for(
    sd: FakeSounddevice, clock: Clock, listening: Open
) -> None:
    with listening() as microphone:
        items = microphone.blocks()
        speak(sd, clock, noise(0.1))
        sd.fails_to_initialise = True
        sd.stream.end()
        until(items, Trouble.LOST)
        time.sleep(0.1)  # several starts that fail
        sd.fails_to_initialise = False
        opened_again(sd)
        speak(sd, clock, noise(0.1))
        until(items, Trouble.BACK)


def test_a_device_that_only_falls_silent_is_opened_anew(
    sd: FakeSounddevice, clock: Clock, listening: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SILENT_S", 0.1)
    with listening(clock=time.monotonic) as microphone:
        items = microphone.blocks()
        sd.stream.feed(noise(0.05))
        until(items, Trouble.LOST)
        opened_again(sd)
        assert sd.streams[0].closed
        sd.stream.feed(noise(0.05))
        until(items, Trouble.BACK)


def test_stopped_while_no_device_is_there_it_ends(
    sd: FakeSounddevice, clock: Clock, listening: Open
) -> None:
    with listening() as microphone:
        items = microphone.blocks()
        speak(sd, clock, noise(0.1))
        sd.devices = []
        sd.stream.end()
        until(items, Trouble.LOST)
        microphone.stop()
        assert list(items) == []


# --- opening ---------------------------------------------------------------------------------


def test_a_device_that_takes_no_format_is_one_line_with_the_cure(
    sd: FakeSounddevice, listening: Open, tmp_path: Path
) -> None:
    sd.accepts = lambda asked: False
    with pytest.raises(AudioError, match="'desk mic' cannot be opened") as told, listening():
        pass
    assert "Invalid sample rate" in str(told.value)
    assert "close other programs" in str(told.value)
    assert len(set(sd.tried)) == len(sd.tried) > 50
    assert not (tmp_path / "state").exists()


def test_a_busy_device_is_not_asked_in_every_format(sd: FakeSounddevice, listening: Open) -> None:
    sd.accepts, sd.refusal = lambda asked: False, PortAudioError("Unavailable", UNAVAILABLE)
    with pytest.raises(AudioError, match="Unavailable"), listening():
        pass
    assert len(sd.tried) == 1


def test_where_the_recording_cannot_be_made_the_device_is_closed_again(
    sd: FakeSounddevice, listening: Open, tmp_path: Path
) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(OutputError), listening():
        pass
    assert sd.stream.closed


def test_two_microphones_of_one_program_do_not_disturb_each_other(
    sd: FakeSounddevice, clock: Clock, listening: Open
) -> None:
    sound = noise(0.5)
    with listening() as first, listening() as second:
        for stream in sd.streams:
            stream.feed(sound)
        for microphone in (first, second):
            blocks, _ = all_of(microphone)
            np.testing.assert_array_equal(joined(blocks), sound)
            assert not math.isinf(microphone.level.rms_db)
