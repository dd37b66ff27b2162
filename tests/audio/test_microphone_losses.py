"""Sound that is lost, and devices that go and come."""

from __future__ import annotations

import time

import numpy as np
import psutil
import pytest
import soundfile

from stt.audio import capture
from stt.audio import microphone as module
from stt.audio.microphone import Block
from stt.audio.sound_check import Trouble
from support.desk import RATE, Desk, all_of, joined, kinds, noise, until
from support.fake_sounddevice import UNAVAILABLE, PortAudioError, entry

# --- lost sound ------------------------------------------------------------------------------


def test_an_overrun_that_portaudio_reports_is_reported_once_in_ten_seconds(desk: Desk) -> None:
    with desk.listening() as microphone:
        for number in range(8):
            desk.now += 0.5
            desk.sd.stream.feed(noise(0.5), overflow=number in (2, 4))
        desk.speak(noise(9.0))
        desk.sd.stream.feed(noise(0.1), overflow=True)
        blocks, problems = all_of(microphone)
        assert kinds(problems) == 2 * [Trouble.OVERRUN.value], "again after ten seconds without"
        assert "close other programs" in problems[0].message
    assert len(joined(blocks)) == round(13.1 * RATE)


def test_sound_missing_without_a_word_is_found_and_recorded_as_silence(desk: Desk) -> None:
    keep = desk.folder / "talk.flac"
    with desk.listening(keep=keep) as microphone:
        desk.speak(noise(3.0))
        desk.now += 2.0
        desk.speak(noise(8.0))
        blocks, problems = all_of(microphone)
        assert microphone.lost == pytest.approx(2.0 * RATE, abs=0.1 * RATE)
        assert microphone.seconds == pytest.approx(13.0, abs=0.1)
        assert "2.0 s of sound was lost" in problems[0].message
        assert kinds(problems) == [Trouble.OVERRUN.value]
    heard = joined(blocks)
    np.testing.assert_allclose(soundfile.read(keep)[0], heard, atol=2 / 32_768)


def test_one_overrun_reported_by_portaudio_and_found_by_the_clock_counts_once(desk: Desk) -> None:
    with desk.listening() as microphone:
        desk.speak(noise(3.0))
        desk.now += 1.05
        desk.sd.stream.feed(noise(0.05), overflow=True)
        desk.speak(noise(8.0))
        _, problems = all_of(microphone)
        assert microphone.lost == pytest.approx(RATE, abs=0.1 * RATE)
    assert kinds(problems) == [Trouble.OVERRUN.value]


def test_what_there_was_no_room_for_is_counted_exactly(desk: Desk) -> None:
    desk.patch(module, "POLL_S", 0.5)  # a pump that is kept away
    desk.patch(capture, "QUEUE_S", 3.0)
    with desk.listening() as microphone:
        desk.speak(noise(3.5), block=RATE // 4)
        deadline = time.monotonic() + 60
        while microphone.seconds < 3.0 and time.monotonic() < deadline:
            time.sleep(0.02)
        desk.speak(noise(1.0))
        blocks, problems = all_of(microphone)
        assert microphone.lost == RATE // 2
    assert kinds(problems) == [Trouble.OVERRUN.value]
    assert "0.5 s of sound was lost" in problems[0].message
    assert len(joined(blocks)) == round(4.5 * RATE)


def test_an_hour_faster_than_real_time_loses_nothing_and_does_not_grow(desk: Desk) -> None:
    """A crystal 50 millionths slow; the blocks come up to 30 ms late."""
    rate, step = 4_000, 1 + 50e-6
    desk.sd.devices = [entry("slow mic", rate=rate)]
    late = np.random.default_rng(2).uniform(0, 0.03, 3_600)
    block = noise(1.0, rate)
    with desk.listening() as microphone:
        items, began, memory = microphone.blocks(), desk.now, 0
        for number in range(3_600):
            desk.now = began + (number + 1) * step + float(late[number])
            desk.sd.stream.feed(block)
            if number % 20 == 19:
                for count in range(number - 19, number + 1):
                    item = next(items)
                    assert isinstance(item, Block)
                    assert item.start_sample == count * rate and item.lost == 0
            if number == 600:
                memory = psutil.Process().memory_info().rss
        grown = psutil.Process().memory_info().rss - memory
        assert microphone.seconds == 3_600.0
        assert microphone.lost == 0
        assert grown < 20e6, "50 minutes of this sound are 48 MB"


# --- devices that go and come ----------------------------------------------------------------


def test_unplugged_and_plugged_in_again_the_count_follows_the_clock(desk: Desk) -> None:
    keep, sound = desk.folder / "talk.flac", noise(2.0)
    with desk.listening("desk", keep=keep) as microphone:
        items = microphone.blocks()
        desk.speak(sound[:RATE])
        plugged, desk.sd.devices = desk.sd.devices, [entry("other mic")]
        lost = desk.unplug(items)
        assert lost.at == 1.0
        assert "'desk mic' is gone" in lost.message and "plug it in again" in lost.message
        desk.now += 5.0
        time.sleep(0.1)  # some looks at what is there
        assert len(desk.sd.streams) == 1, "another microphone is not what was asked for"
        desk.sd.devices = [entry("other mic"), *plugged]
        back = desk.plug(items, sound[RATE:])
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
def test_a_device_is_known_again_in_another_socket(desk: Desk, before: str, after: str) -> None:
    desk.sd.devices = [entry(before)]
    with desk.listening(0) as microphone:
        items = microphone.blocks()
        desk.speak(noise(0.1))
        desk.sd.devices = [entry("Built-in"), entry(after)]
        desk.unplug(items)
        desk.plug(items, noise(0.1))
        assert microphone.device.name == after


def test_where_the_default_went_the_new_one_is_taken_at_the_first_rate(desk: Desk) -> None:
    with desk.listening() as microphone:
        items = microphone.blocks()
        desk.speak(noise(1.0))
        desk.sd.devices = [entry("Monitor of 44.1 kHz", rate=44_100)]
        desk.sd.accepts = lambda asked: bool(asked["samplerate"] == 44_100)
        desk.unplug(items)
        assert "'Monitor of 44.1 kHz'" in desk.plug(items, noise(1.0, 44_100)).message
        rest, problems = all_of(microphone)
        assert kinds(problems) == [Trouble.NOT_A_MICROPHONE.value]
        assert microphone.rate == RATE
        assert microphone.format.rate == 44_100
        assert sum(len(block.samples) for block in rest) == RATE


def test_a_default_that_is_listed_but_refuses_gives_way_to_the_next(desk: Desk) -> None:
    with desk.listening() as microphone:
        items = microphone.blocks()
        desk.speak(noise(0.1))
        desk.sd.devices, desk.sd.default = [entry("desk mic"), entry("new default")], 1
        desk.sd.refusal = PortAudioError("Device unavailable", UNAVAILABLE)
        desk.sd.accepts = lambda asked: bool(asked["device"] == 1)
        desk.unplug(items)
        assert "'new default'" in desk.plug(items, noise(0.1)).message


def test_a_sound_system_that_stops_is_waited_for(desk: Desk) -> None:
    with desk.listening() as microphone:
        items = microphone.blocks()
        desk.speak(noise(0.1))
        desk.sd.fails_to_initialise = True
        desk.unplug(items)
        time.sleep(0.1)  # several starts that fail
        desk.sd.fails_to_initialise = False
        desk.plug(items, noise(0.1))


def test_a_device_that_only_falls_silent_is_opened_anew(desk: Desk) -> None:
    desk.patch(module, "_SILENT_S", 0.1)
    with desk.listening(clock=time.monotonic) as microphone:
        items = microphone.blocks()
        desk.sd.stream.feed(noise(0.05))
        until(items, Trouble.LOST)
        desk.plug(items, noise(0.05))
        assert desk.sd.streams[0].closed


def test_stopped_while_no_device_is_there_it_ends(desk: Desk) -> None:
    with desk.listening() as microphone:
        items = microphone.blocks()
        desk.speak(noise(0.1))
        desk.sd.devices = []
        desk.unplug(items)
        microphone.stop()
        assert list(items) == []
