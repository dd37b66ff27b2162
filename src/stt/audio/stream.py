"""A recording's sound track, as its reader gives it and as it is heard: blocks, read once.

RawAudio has the channels as they are; what is heard of it, a stretch of one channel or of all
mixed, with every sample sound, is an AudioStream.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from stt.audio.channels import CANCELLING_NOTE, Downmix, channel_number, one_channel
from stt.audio.damage import Damage, blocks_read
from stt.audio.samples import sound
from stt.audio.selection import Selection, clock
from stt.errors import AudioError
from stt.system.files import printable
from stt.types import Samples

BLOCK = 1 << 15
"""Frames read at a time: 0.3 s at 96 kHz, 4 s at 8 kHz."""


@dataclass(frozen=True, slots=True)
class RawAudio:
    """An opened sound track. Iterate `blocks` once."""

    sample_rate: int
    """Hz."""
    duration: float | None
    """Seconds, as the container says (an estimate for some); None when it does not."""
    channels: int
    """How many; where recordings are joined, of the first."""
    blocks: Iterator[npt.NDArray[np.float32]]
    """float32 [n, channels]; their number may change in between."""
    began: int = 0
    """Samples of the recording before the first block: it was sought to."""
    track: int = 1
    """Which sound track this is, from 1."""
    tracks: tuple[str, ...] = ("sound track 1",)
    """What each sound track is, e.g. 'track 2 (eng, stereo)'."""


@dataclass(frozen=True, slots=True)
class AudioStream:
    """An opened recording. Iterate `blocks` once."""

    name: str
    """As the user gave it; used in messages."""
    sample_rate: int
    """Hz."""
    duration: float | None
    """Seconds, as the container says (an estimate for some); None when it does not."""
    blocks: Iterator[Samples]
    """float32 [n] mono, full scale ±1. Raises AudioError when the data turn out to be damaged,
    unless the stream is tolerant and something can be read."""
    damage: Damage = field(default_factory=lambda: Damage(tolerant=False))
    """What is wrong with it, as far as it was read."""
    start: float = 0.0
    """Seconds of the recording at which the blocks begin."""
    channels: int = 1
    """How many the track has that is heard."""
    track: int = 1
    """Which sound track is heard, from 1."""
    tracks: tuple[str, ...] = ()
    """What each of the recording's sound tracks is, e.g. 'track 2 (eng, stereo)'."""


def mono_stream(raw: RawAudio, source: str, selection: Selection, damage: Damage) -> AudioStream:
    """Return what of a sound track is heard: a stretch of it, mixed or one channel.

    Raises:
        AudioError: it has no such channel.
    """
    name = printable(source)
    blocks = stretch(raw, selection, name, damage)
    if selection.channel:
        number = channel_number(selection.channel)
        if number > raw.channels:
            has = "1 channel (mono)" if raw.channels == 1 else f"{raw.channels} channels"
            raise AudioError(
                f"{name}: has no channel {selection.channel}, it has {has}; give another, or none "
                "to hear all"
            )
        blocks = one_channel(blocks, number)
    else:
        blocks = _downmixed(blocks, raw.sample_rate, damage)
    duration = raw.duration
    if duration is not None and selection.end is not None:
        duration = min(duration, selection.end)
    stream = AudioStream(
        *(source, raw.sample_rate, duration, blocks, damage, selection.start),
        *(raw.channels, raw.track, raw.tracks),
    )
    return checked(stream)


def _downmixed(blocks: Iterator[Samples], rate: int, damage: Damage) -> Iterator[Samples]:
    downmix = Downmix(rate)
    for block in downmix.mixed(blocks):
        if downmix.cancels:
            damage.note(CANCELLING_NOTE)
        yield block


def stretch(raw: RawAudio, selection: Selection, name: str, damage: Damage) -> Iterator[Samples]:
    """Yield the part of a sound track's blocks that lies between the selection's start and end.

    `damage` takes a note where it ends before the end that was asked for.

    Raises:
        AudioError: the start lies beyond the recording's end.
    """
    rate, place = raw.sample_rate, raw.began
    first = round(selection.start * rate)
    last = None if selection.end is None else round(selection.end * rate)
    for block in raw.blocks:
        wanted = block[max(0, first - place) : None if last is None else max(0, last - place)]
        place += len(block)
        if len(wanted):
            yield wanted
        if last is not None and place >= last:
            return
    if first and place <= first:
        raise AudioError(
            f"{name}: the start ({clock(selection.start)}) lies beyond its end "
            f"({clock(place / rate)}); give an earlier one"
        )
    if last is not None and place < last - rate // 10:
        damage.note(f"ends at {clock(place / rate)}, before the end that was asked for")


def checked(stream: AudioStream) -> AudioStream:
    """Return the same stream, made sound by `samples.sound`; one without samples is refused."""
    return replace(stream, blocks=_checked_blocks(stream))


def _checked_blocks(stream: AudioStream) -> Iterator[Samples]:
    done, name = 0, printable(stream.name)
    blocks = blocks_read(stream.blocks, name)
    for block in sound(blocks, stream.sample_rate, name, stream.damage):
        done += len(block)
        yield block
    if done == 0 and stream.damage.failures:
        raise AudioError(f"{name}: {stream.damage.failures[0]}")
    if done == 0:
        raise AudioError(f"{name}: holds no audio (0 samples); record or export it again")
