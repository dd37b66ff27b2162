"""The microphone: from PortAudio's callback to mono blocks, and first of all onto the disk.

    callback (PortAudio's thread)   copies bytes into a queue of 30 s, nothing else
    pump (a thread here)            queue -> mono float32 -> recording -> backlog
    blocks() (the caller's)         backlog -> Block | Problem

Times are counted in samples from the first one captured. Where sound is missing (an overrun, a
device unplugged) the count goes on with the wall clock, and the next Block says how much.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stt.audio.capture import Backlog, Chunk, Format, open_capture
from stt.audio.devices import find, hidden_stderr, load_sounddevice, rescan, stand_ins
from stt.audio.recording import Recording, check_target
from stt.audio.sound_check import (
    GOOD_DB,
    QUIET_AGAIN,
    Level,
    SampleClock,
    SoundCheck,
    Trouble,
    message,
)
from stt.errors import AudioError, OutputError
from stt.events import Problem
from stt.system.files import printable
from stt.types import Samples

BACKLOG_S = 60.0
"""Seconds of sound held in memory for a slow consumer; more goes to a temporary file."""
POLL_S = 0.05
"""Seconds between two looks into the queue."""
_AT_REST = 5
"""Times as long from one look to the next after 2 s without a voice: waking up is what costs then,
and the first words of an utterance are still heard before their draft is due."""
_REST_AFTER_S = 2.0
RETRY_S = 1.0
"""Seconds between two looks for a device that is gone."""
_SILENT_S, _FIRST_S = 2.0, 5.0
"""Seconds without a callback that mean the device is gone; Bluetooth takes long to begin.

Most devices that go end their stream at once. Two seconds, because to open a device anew loses
sound, and a machine that is far too busy must not cause that.
"""


@dataclass(frozen=True, slots=True)
class Block:
    """Sound as it was captured, about 50 ms of it."""

    samples: Samples
    """float32 [n] mono at the microphone's rate, full scale ±1."""
    start_sample: int
    """Place of samples[0], counted from the first sample captured, lost ones included."""
    lost: int = 0
    """Samples missing right before."""
    at: float | None = None
    """When the last sample was captured, in seconds of `time.monotonic`; None: just now."""


class Microphone:
    """An open microphone; a context manager.

    The recording is deleted when the block ends without an exception, unless `keep` names a file
    for it or `keep_recording` was called. After any exception, Ctrl-C among them, it stays, if
    there is anything in it.
    """

    def __init__(
        self,
        device: str | int | None = None,
        *,
        keep: Path | None = None,
        record: bool = True,
        folder: Path | None = None,
        limit_s: float | None = None,
        sd: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Choose the device; nothing is opened yet.

        Args:
            device: number, name or part of a name; None is the default.
            keep: FLAC file that the recording becomes in the end.
            record: whether to record at all; False is for a level meter.
            folder: where the recording lies meanwhile, by default the user's state folder.
            limit_s: stop by itself when so many seconds have been captured.
            sd: the module `sounddevice`; None loads it.
            clock: seconds of the wall clock.

        Raises:
            AudioError: PortAudio is missing, or no such device.
            OutputError: `keep` cannot be written.
        """
        if keep is not None:
            check_target(keep)
        self._sd = sd or load_sounddevice()
        self._asked = device
        self._keep, self._record, self._folder = keep, record, folder
        self._clock, self._limit_s = clock, limit_s
        self.device = find(device, self._sd)
        """The device in use; another after it was unplugged, if the default was asked for."""
        self.rate = self.device.default_rate
        """Hz of the blocks and the recording; stays, whatever is plugged in later."""
        self.recording: Recording | None = None
        self.lost = 0
        """Samples lost, to overruns and while no device was there."""
        self._keep_anyway = False
        self._pending = 0  # samples lost since the last block
        self._stopping = threading.Event()
        self._fault: BaseException | None = None  # what ended the pump too early
        self._overrun_at = -math.inf  # when sound was last lost to a busy machine
        self._gone = False  # whether no sound came since the device was lost
        self._recording_failed = False
        self._thread: threading.Thread | None = None
        self._stack = ExitStack()

    # --- what the caller sees ----------------------------------------------------------------

    def __enter__(self) -> Microphone:
        """Open the device and start to listen.

        Raises:
            AudioError: it cannot be opened.
            OutputError: the recording cannot be made.
        """
        with self._stack as stack:
            stack.enter_context(hidden_stderr())  # ALSA also prints when a device goes
            self._capture = open_capture(self._sd, self.device, None, self._clock)
            stack.callback(self._close_capture)
            self.rate = self.format.rate
            self._samples = SampleClock(self.rate)
            self._check = SoundCheck(self.rate)
            if self._record:
                self.recording = Recording(self.rate, self._folder)
                stack.callback(self.recording.close)
            folder = self.recording.path.parent if self.recording else self._folder
            self._backlog = Backlog(round(BACKLOG_S * self.rate), folder)
            stack.callback(self._backlog.close)
            self._stack = stack.pop_all()
        if self.device.plays_back:
            self._tell(Trouble.NOT_A_MICROPHONE)
        self._thread = threading.Thread(target=self._run, name="microphone", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._keep_anyway |= error is not None
        self.close()

    def blocks(self) -> Iterator[Block | Problem]:
        """Yield what was captured, in order and without end; after `stop`, what is left.

        A consumer may be slow: sound waits, at last on the disk, and none is dropped. What is
        still waiting when the microphone is closed is in the recording alone.

        Raises:
            AudioError: a fault in the microphone's own thread; the recording is kept.
        """
        while True:
            item = self._backlog.get(timeout=0.2)  # Windows hears Ctrl-C between two waits only
            if item is None:
                continue
            what, samples = item
            if samples is not None:
                yield Block(samples, *what)
            elif what is None:
                self._backlog.put(None)  # a later call ends too
                break
            else:
                yield what
        if self._fault is not None:
            raise AudioError(
                f"the microphone stopped by a fault in stt ({self._fault!r}); the recording is "
                "kept; run with STT_DEBUG=1 and report it"
            ) from self._fault

    def stop(self) -> None:
        """Stop listening; `blocks` ends when all has been delivered. For any thread."""
        self._stopping.set()

    def close(self) -> None:
        """Stop, close the device, and keep or delete the recording; may be called twice.

        Raises:
            OutputError: the recording cannot be moved to `keep`; the text says where it is.
        """
        self.stop()
        if self._thread is not None:
            self._thread.join()
        self._stack.close()
        recording, self._record = self.recording if self._record else None, False
        if recording is None:
            return
        if self._keep is not None:
            recording.keep(self._keep)
        elif self._keep_anyway and recording.samples:
            recording.keep()
        else:
            recording.discard()

    def keep_recording(self) -> None:
        """Do not delete the recording in the end."""
        self._keep_anyway = True

    @property
    def format(self) -> Format:
        """How the device was opened."""
        return self._capture.format

    @property
    def level(self) -> Level:
        """How loud it is now."""
        return self._check.level

    @property
    def seconds(self) -> float:
        """Seconds captured so far, lost ones included."""
        return self._samples.count / self.rate

    # --- the pump's thread -------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._pump()
        except BaseException as error:  # noqa: BLE001 - raised to the caller, by `blocks`
            self._fault, self._keep_anyway = error, True
        finally:
            self._backlog.put(None)

    def _pump(self) -> None:
        quiet, before, limit = 0.0, self._clock(), _FIRST_S
        voice_at, pause = before, POLL_S
        while not self._stopping.wait(pause):
            now = self._clock()
            # a program that was suspended must not take its own sleep for the device's
            quiet, before = quiet + min(now - before, 4 * pause), now
            voice_at = now if self.level.peak_db >= GOOD_DB else voice_at
            pause = POLL_S * (_AT_REST if now - voice_at > _REST_AFTER_S else 1)
            if self._take():
                quiet, limit = 0.0, _SILENT_S
            if self._limit_s is not None and self.seconds >= self._limit_s:
                break
            if self._capture.ended or quiet > limit:
                self._wait_for_device()
                quiet, before, limit = 0.0, self._clock(), _FIRST_S
        self._capture.close()
        self._take()

    def _take(self) -> bool:
        """Move what was captured on; whether there was anything."""
        chunks = self._capture.take()
        for chunk in chunks:
            self._pass_on(chunk)
        return bool(chunks)

    def _pass_on(self, chunk: Chunk) -> None:
        if self._gone:
            self._gone = False
            self._lose(self._samples.missing(len(chunk.samples), chunk.at))
            self._check.restart()
            self._tell(Trouble.BACK)
            if self.device.plays_back:
                self._tell(Trouble.NOT_A_MICROPHONE)
        self._samples.lose(chunk.dropped)
        lost = chunk.dropped + self._samples.took(len(chunk.samples), chunk.at)
        if lost or chunk.overflowed:
            if chunk.at - self._overrun_at >= QUIET_AGAIN:
                self._tell(Trouble.OVERRUN, lost)
            self._overrun_at = chunk.at
        self._note_lost(lost)
        self._write(chunk.samples)
        if not len(chunk.samples):  # a resampler that has only begun
            return
        start = self._samples.count - len(chunk.samples)
        self._backlog.put((start, self._pending, chunk.at), chunk.samples)
        self._pending = 0
        for trouble in self._check.push(chunk.samples):
            self._tell(trouble)

    def _lose(self, count: int) -> None:
        """Go on by samples that the wall clock has and the device has not."""
        self._samples.lose(count)
        self._note_lost(count)

    def _note_lost(self, count: int) -> None:
        self.lost += count
        self._pending += count
        self._write(count)

    def _write(self, what: Samples | int) -> None:
        """Put samples, or a number of zeros, into the recording, while that works."""
        if self.recording is None or self._recording_failed:
            return
        try:
            if isinstance(what, int):
                self.recording.write_silence(what)
            else:
                self.recording.write(what)
        except OutputError as error:
            self._recording_failed = self._keep_anyway = True
            self._tell(Trouble.RECORDING, error)

    def _tell(self, kind: Trouble, about: object = None) -> None:
        text = message(kind, printable(self.device.name), about, self.rate)
        self._backlog.put(Problem(self.seconds, kind.value, text))

    def _close_capture(self) -> None:
        self._capture.close()

    # --- the device --------------------------------------------------------------------------

    def _wait_for_device(self) -> None:
        """Say that the device is gone, and open it again when it is back, or the new default."""
        self._capture.close()
        self._take()
        if not self._gone:
            self._tell(Trouble.LOST)
        self._gone = True
        while not self._stopping.wait(RETRY_S):
            self._lose(self._samples.missing(0, self._clock()))
            if self._opened_again():
                return

    def _opened_again(self) -> bool:
        """Open the first device that may stand for the one that went; whether there is one."""
        with suppress(AudioError):  # not there yet, or the sound system itself is gone
            rescan(self._sd)
            for device in stand_ins(self.device, self._asked, self._sd):
                with suppress(AudioError):  # it refuses: the next one
                    self._capture = open_capture(self._sd, device, self.rate, self._clock)
                    self.device = device
                    return True
        return False
