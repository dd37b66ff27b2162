"""A recording's sound track as its reader gives it and as it is heard, and what is wrong with it.

RawAudio has the channels as they are; what is heard of it, a stretch of one channel or of all
mixed, with every sample sound, is an AudioStream. Damage takes what cannot be read, or is odd.
"""

from __future__ import annotations

import errno
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from stt.errors import AudioError
from stt.types import Samples

# A container's duration is rounded and includes encoder padding: only a real gap is a truncation.
_GAP_SECONDS, _GAP_SHARE = 1.0, 0.02
_ROUND, _ROUND_BINARY, _LEAST_ROUND = 1_000_000, 1 << 24, 100_000_000
# Programs that write to a pipe cannot know its size and leave a value near the top of 31 or 32 bits
SIZE_UNKNOWN = 0x7FFF_0000
BLOCK = 1 << 15
"""Frames read at a time: 0.3 s at 96 kHz, 4 s at 8 kHz."""


class Damage:
    """What is wrong with a recording, or odd: an error or, where the rest is wanted, a line."""

    def __init__(self, *, tolerant: bool) -> None:
        self.tolerant = tolerant
        self.failures: list[str] = []
        """A line for each place that cannot be read."""
        self.notes: list[str] = []
        """A line for each thing that is odd and costs nothing of the sound."""

    def note(self, line: str) -> None:
        """Note what a person should know; the recording is done all the same."""
        if line not in self.notes:
            self.notes.append(line)

    def meet(self, error: AudioError) -> None:
        """Raise the error, or note it: reading goes on."""
        if not self.tolerant:
            raise error
        self.failures.append(str(error).split(": ", 1)[1])


@dataclass(frozen=True, slots=True)
class RawAudio:
    """An opened sound track. Iterate `blocks` once."""

    sample_rate: int
    """Hz."""
    duration: float | None
    """Seconds, as the container says (an estimate for some); None when it does not."""
    channels: int
    """How many; where recordings are joined, of the first."""
    blocks: Iterator[Samples]
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
    damage: Damage
    """What is wrong with it, as far as it was read."""
    start: float
    """Seconds of the recording at which the blocks begin."""
    channels: int
    """How many the track has that is heard."""
    track: int
    """Which sound track is heard, from 1."""
    tracks: tuple[str, ...]
    """What each of the recording's sound tracks is, e.g. 'track 2 (eng, stereo)'."""


def check_length(name: str, read_s: float, promised_s: float, damage: Damage) -> None:
    """Meet damage where clearly less was read than the header promised, both in seconds."""
    if is_short(read_s, promised_s):
        damage.meet(truncated(name, f"{promised_s:.1f} s promised, {read_s:.1f} s there"))


def is_short(read_s: float, promised_s: float) -> bool:
    """Tell whether so much is missing that a header's rounding does not explain it."""
    return promised_s - read_s > max(_GAP_SECONDS, promised_s * _GAP_SHARE)


def is_placeholder(size: int) -> bool:
    """Tell whether a size is one that programs write which do not know it yet.

    Those are values near the top of 31 or 32 bits, and round ones from 100 million bytes on.
    """
    near = range(size - 64, size + 65)  # a header's bytes are counted in or not
    return size >= SIZE_UNKNOWN or (
        size >= _LEAST_ROUND and any(one % _ROUND == 0 or one % _ROUND_BINARY == 0 for one in near)
    )


def truncated(name: str, detail: str) -> AudioError:
    """Return the error for a recording of which a part is missing."""
    return AudioError(f"{name}: truncated: {detail}; copy it again{_saving(name)}")


def _saving(name: str) -> str:
    """Return the rest of the cure, where a command can be typed for the recording."""
    command = ffmpeg_command(name, "part.wav")
    return f", or save what is there with `{command}` and transcribe that" if command else ""


def ffmpeg_command(name: str, output: str) -> str:
    """Return the command line that converts a recording; '' for one without a name to type."""
    if name == "-" or "\\" in name:
        return ""
    return f"ffmpeg -i {shlex.quote(f'file:{name}' if ':' in name else name)} {output}"


def damaged(name: str, after_s: float, detail: str) -> AudioError:
    """Return the error for a recording that cannot be decoded past `after_s` seconds."""
    return AudioError(
        f"{name}: damaged or truncated after {after_s:.1f} s ({detail}); copy or export it again"
    )


_LIBRARIES = {"av": "FFmpegError", "soundfile": "SoundFileError"}
"""Library -> the base of its exceptions."""


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Read or open a recording that messages call `name`.

    Raises:
        AudioError: in place of the system's and the libraries' exceptions.
    """
    try:
        yield
    except MemoryError as error:
        raise AudioError(
            f"{name}: not enough memory to read it; close other programs, or convert it to wav"
        ) from error
    except _raised() as error:
        raise AudioError(f"{name}: cannot be read ({_detail(error)}); {_cure(error)}") from error


def blocks_read(blocks: Iterable[Samples], name: str) -> Iterator[Samples]:
    """Yield the blocks of a recording.

    Raises:
        AudioError: as of `reading`.
    """
    found = iter(blocks)
    while True:
        with reading(name):
            block = next(found, None)
        if block is None:
            return
        yield block


def _raised() -> tuple[type[Exception], ...]:
    """What may be raised: of the libraries, those that are imported."""
    found = [(sys.modules[name], base) for name, base in _LIBRARIES.items() if name in sys.modules]
    return (OSError, EOFError, *(getattr(module, base) for module, base in found))


def _detail(error: Exception) -> str:
    detail = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(str(detail).split()).rstrip(".") or type(error).__name__


def _cure(error: Exception) -> str:
    cures = {
        errno.EIO: "its disk or connection fails: copy it elsewhere and try again",
        errno.ESTALE: "its disk is gone: connect it again",
        errno.ENODEV: "its disk is gone: connect it again",
        errno.EMFILE: "too many files are open: allow more with `ulimit -n 4096`",
        errno.ENFILE: "too many files are open on this machine: close other programs",
        errno.EACCES: "check its rights and those of its folder",
        errno.EPERM: "check its rights and those of its folder",
        errno.ENOENT: "it was moved or deleted meanwhile: name it where it is",
    }
    return cures.get(getattr(error, "errno", None) or 0, "copy or export it again")
