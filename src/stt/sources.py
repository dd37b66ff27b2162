"""From what a caller names to the streams that are transcribed: one, or one for each channel."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stt.audio.files import Recording, found, mono_stream, open_recording
from stt.audio.selection import ALL, Selection, channel_name, no_such_track
from stt.audio.stream import AudioStream, Damage, RawAudio
from stt.audio.utterances import Utterance
from stt.engine.fallback import Fallback
from stt.errors import AudioError, UsageError
from stt.pipeline import UtteranceCache
from stt.transcript import Segment

Source = str | Path | Recording | RawAudio | npt.NDArray[Any]
"""A Recording has a name for messages that is not its path's; RawAudio is sound as it comes."""

_MOST_CHANNELS = 64
"""More than this in the last axis are samples: the axes are the wrong way round."""
_LARGEST = 1e30
"""Largest float taken over as it is: float32 ends at 3.4e38."""
_SPEECH_FRAMES = 8
"""Frames of 32 ms that are speech, from which on a track holds some."""


_PART = 1 << 44
"""Samples that no recording has: 34 years."""


@dataclass(frozen=True, slots=True)
class Part:
    """A track or channel of a recording, or the recording itself where there is one part."""

    stream: AudioStream
    number: int
    """Which, from 1."""
    count: int
    """How many there are."""
    channel: str
    """What results call it: 'left', 'channel 3', 'track 2'; '' where there is one."""
    recording: Recording | None
    """None for an array, and for sound as it comes."""


def parts(
    source: Source, sample_rate: int | None, selection: Selection
) -> Generator[Part, None, None]:
    """Open the parts of a recording one after the other; each is to be read before the next.

    Raises:
        AudioError, UsageError: as Transcriber.transcribe does.
    """
    with _recording(source) as recording:
        number = count = 1
        while number <= count:
            with _opened(source, recording, sample_rate, selection.part(number)) as stream:
                label = ""
                if selection.has_parts:
                    count = len(stream.tracks) if selection.track == ALL else stream.channels
                if count > 1 and selection.track == ALL:
                    label = f"track {number}"
                elif count > 1:
                    label = channel_name(number, count)
                yield Part(stream, number, count, label, recording)
            number += 1


@contextmanager
def _recording(source: Source) -> Iterator[Recording | None]:
    if not isinstance(source, (str, Path, Recording, RawAudio, np.ndarray)):
        raise UsageError(
            f"a recording is a path, '-' or a NumPy array of samples, not {type(source).__name__}"
        )
    if isinstance(source, (Recording, RawAudio, np.ndarray)):
        yield source if isinstance(source, Recording) else None
        return
    with found(source) as recording:
        yield recording


@contextmanager
def _opened(
    source: Source, recording: Recording | None, sample_rate: int | None, selection: Selection
) -> Iterator[AudioStream]:
    if recording is not None:
        with open_recording(recording, selection, tolerant=True) as stream:
            yield stream
        return
    if isinstance(source, RawAudio):
        yield mono_stream(source, "stream", selection, Damage(tolerant=True))
        return
    assert isinstance(source, np.ndarray)
    if sample_rate is None:
        raise UsageError(
            "an array does not know its sample rate; give it in Hz, e.g. sample_rate=16000"
        )
    if sample_rate <= 0:
        raise UsageError(f"sample_rate is {sample_rate}; give the array's samples per second")
    samples = _channels(source)
    blocks = (samples[i : i + sample_rate] for i in range(0, len(samples), sample_rate))
    raw = RawAudio(sample_rate, len(samples) / sample_rate, samples.shape[1], blocks)
    if selection.track not in ("", "1"):
        raise no_such_track("array", selection.track, raw.tracks)
    yield mono_stream(raw, "array", selection, Damage(tolerant=True))


def _channels(samples: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return samples as float32 [n, channels] in ±1."""
    if samples.ndim not in (1, 2):
        raise UsageError(f"samples of shape {samples.shape}; give [n] or [n, channels]")
    if samples.ndim == 2 and samples.shape[1] > _MOST_CHANNELS:
        raise UsageError(f"samples of shape {samples.shape}: channels come last, as [n, channels]")
    if samples.dtype in (np.int16, np.int32):
        scaled = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    elif samples.dtype.kind == "f":
        scaled = _within_float32(samples)
    else:
        raise UsageError(f"samples of type {samples.dtype}; give float, int16 or int32")
    return scaled if scaled.ndim == 2 else scaled[:, None]


def _within_float32(samples: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Convert floats; larger ones than float32 holds are made smaller, all by one power of two."""
    if samples.dtype.itemsize > np.dtype(np.float32).itemsize:
        peak = np.max(np.abs(samples), initial=0.0, where=np.isfinite(samples))
        if peak > _LARGEST:
            samples = np.ldexp(samples, -int(np.frexp(peak / _LARGEST)[1]))
    return samples.astype(np.float32)


def tracks_note(part: Part, selection: Selection, *, is_silent: bool) -> str:
    """Say that there are other sound tracks, where none was chosen; '' where there are none.

    `is_silent`: nothing was said in the one that was heard, so the others are listened to.
    """
    stream = part.stream
    if selection.track or len(stream.tracks) < 2 or part.recording is None:
        return ""
    listed = ", ".join(stream.tracks)
    if is_silent:
        speaking = [n for n in _others(stream) if _has_speech(part.recording, selection, n)]
        if speaking:
            numbers = " and ".join(map(str, speaking))
            several = len(speaking) > 1
            others = (
                f"tracks {numbers} do: choose one"
                if several
                else f"track {numbers} does: choose it"
            )
            return (
                f"track {stream.track} holds no speech, {others} with --track {speaking[0]} "
                f"(of {listed})"
            )
    return (
        f"of {len(stream.tracks)} sound tracks, track {stream.track} is heard; --track N, LANG or "
        f"all chooses from {listed}"
    )


def _others(stream: AudioStream) -> list[int]:
    return [n for n in range(1, len(stream.tracks) + 1) if n != stream.track]


def _has_speech(recording: Recording, selection: Selection, track: int) -> bool:
    """Listen to another track until a quarter of a second of it is speech."""
    from stt.audio.samples import resampled
    from stt.audio.vad import FRAME, SpeechProbability

    speech, rest, heard = SpeechProbability(), np.zeros(0, np.float32), 0
    wanted = Selection(str(track), "", selection.start, selection.end)
    try:
        with open_recording(recording, wanted, tolerant=True) as stream:
            for block in resampled(stream.blocks, stream.sample_rate):
                rest = np.concatenate([rest, block])
                whole = len(rest) // FRAME
                frames, rest = rest[: whole * FRAME].reshape(whole, FRAME), rest[whole * FRAME :]
                heard += int((speech(frames) >= 0.5).sum()) if whole else 0
                if heard >= _SPEECH_FRAMES:
                    return True
    except AudioError:  # it is not the one that was asked for
        return False
    return False


class PartCache:
    """The cache of one of a recording's parts, apart from the others'."""

    def __init__(self, whole: UtteranceCache, number: int) -> None:
        """`number`: which, from 1."""
        self._whole, self._offset = whole, (number - 1) * _PART

    def keep(
        self, utterance: Utterance, segments: list[Segment], fallback: Fallback | None
    ) -> None:
        """See UtteranceCache."""
        self._whole.keep(self._placed(utterance), segments, fallback)

    def recall(self, utterance: Utterance) -> tuple[list[Segment], Fallback | None] | None:
        """See UtteranceCache."""
        return self._whole.recall(self._placed(utterance))

    def _placed(self, utterance: Utterance) -> Utterance:
        return replace(utterance, start=utterance.start + self._offset)
