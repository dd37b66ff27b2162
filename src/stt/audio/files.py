"""Recordings as streams: any container, rate and channel count in, float32 mono blocks out.

libsndfile reads wav, flac, aiff, au, caf and w64, and knows exactly when one is cut short. PyAV
(FFmpeg) reads the rest, see `containers`: also mp3, where libsndfile's mpg123 prints on the user's
screen, and ogg, of which libsndfile reads only the first of several recordings joined in one file.
Blocks are about a second, so memory does not grow with the length of the recording.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import stat
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from stt.audio.sample_values import sound
from stt.errors import AudioError

if TYPE_CHECKING:
    import soundfile

Samples = npt.NDArray[np.float32]

STDIN = "-"
AUDIO_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("wav", "wave", "w64", "rf64", "flac", "aif", "aiff", "aifc", "au", "caf", "sph"),
        *("mp3", "ogg", "oga", "opus", "aac", "ac3", "amr", "ape", "m4a", "m4b", "mka", "wma"),
        *("3gp", "avi", "flv", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "ts", "webm", "wmv"),
        "wv",
    )
)
"""File names taken up when a folder is searched; a file named outright may have any name."""

BLOCK = 1 << 15
"""Frames read at a time: 0.3 s at 96 kHz, 4 s at 8 kHz."""
LOWEST_RATE, HIGHEST_RATE = 1_000, 1_000_000
"""Hz. Outside lies no recording of speech but a damaged header."""

# What libsndfile is asked to open. Left to itself it goes by the suffix where it knows no header,
# and a text called .au, .vox or .gsm becomes noise.
_LIBSNDFILE_HEADS = (b"RIFF", b"RIFX", b"RF64", b"riff", b"fLaC", b"FORM", b".snd", b"caff")
# Programs that write wav to a pipe cannot know its size and leave 0 or a value near the top.
SIZE_UNKNOWN = 0x7FFF_0000
_FRAMES_UNKNOWN = 1 << 62
_SIZES = re.compile(r"^ *(?:data|SSND|riff|Data Size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
# A container's duration is rounded and includes encoder padding: only a real gap is a truncation.
_GAP_SECONDS, _GAP_SHARE = 1.0, 0.02


class Damage:
    """What is wrong with a recording, or odd: an error or, where the rest is wanted, a line."""

    def __init__(self, *, tolerant: bool) -> None:
        self.tolerant = tolerant
        self.told: list[str] = []
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
        self.told.append(str(error).split(": ", 1)[1])


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


@contextmanager
def open_audio(source: str | Path, *, tolerant: bool = False) -> Iterator[AudioStream]:
    """Open a file, or standard input for '-', as an AudioStream.

    `tolerant`: what can be read of a damaged recording is wanted; `damage` then tells of the rest.

    Raises:
        AudioError: missing, empty, truncated, corrupt, silent container, or not audio at all.
    """
    name = printable(str(source))
    with ExitStack() as stack:
        path = Path(source)
        if str(source) == STDIN:
            path = stack.enter_context(_spooled(_stdin(), name))
        elif stat.S_ISFIFO(_mode(path, name)):
            path = stack.enter_context(_spooled(stack.enter_context(path.open("rb")), name))
        head = _head(path, name)
        stream, damage = None, Damage(tolerant=tolerant)
        if head.startswith(_LIBSNDFILE_HEADS) and not _overflows(path, head):
            stream = _open_soundfile(path, name, stack, damage)
        if stream is None:
            from stt.audio.containers import open_container

            stream = open_container(path, name, head, stack, damage)
        if not LOWEST_RATE <= stream.sample_rate <= HIGHEST_RATE:
            raise AudioError(
                f"{name}: says its sample rate is {stream.sample_rate:,} Hz, so its header is "
                "damaged; copy or export it again"
            )
        yield checked(replace(stream, name=str(source)))


def check_there(source: str | Path) -> None:
    """Look at a recording without decoding it, before a model is loaded for it.

    Raises:
        AudioError: it is missing, empty, no file, or may not be read.
    """
    name = printable(str(source))
    if str(source) == STDIN:
        _stdin()
    elif stat.S_ISREG(_mode(Path(source), name)):
        _head(Path(source), name)


def printable(name: str) -> str:
    """Return a file name fit for one line: line breaks, control and broken characters escaped."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name
    )


def folded(name: str) -> str:
    """Return a name as disks compare it that ignore letter case or Unicode form."""
    return unicodedata.normalize("NFC", name).casefold()


def _stdin() -> BinaryIO:
    if sys.stdin is None or sys.stdin.isatty():
        raise AudioError(f"{STDIN}: nothing is piped in; use `stt transcribe - < FILE`")
    return sys.stdin.buffer


@contextmanager
def _spooled(pipe: BinaryIO, name: str) -> Iterator[Path]:
    """Copy a pipe to a temporary file: many containers keep their index at the end."""
    with tempfile.TemporaryDirectory(prefix="stt-input-") as folder:
        path = Path(folder, "input")
        try:
            with path.open("wb") as out:
                shutil.copyfileobj(pipe, out, 1 << 20)
        except OSError as error:
            raise AudioError(
                f"{name}: what is piped in could not be kept in {tempfile.gettempdir()} "
                f"({error.strerror}); set TMPDIR to a folder with room, or name a file"
            ) from error
        yield path


def _mode(path: Path, name: str) -> int:
    """Return st_mode of a path that may hold a recording."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise _missing(name) from error
    except RuntimeError as error:  # Python < 3.13 says so of links in a circle on Windows
        raise AudioError(f"{name}: cannot be opened ({error}); name the recording") from error
    except OSError as error:
        raise _not_opened(error, name) from error
    if stat.S_ISDIR(mode):
        raise AudioError(f"{name}: is a folder; name a file in it")
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise AudioError(f"{name}: is a device, not a recording; name a file")
    return mode


def _missing(name: str) -> AudioError:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name):
        return AudioError(
            f"{name}: is an address, and stt fetches nothing; download it and name the file, or "
            f"pipe it in: curl -L {shlex.quote(name)} | stt transcribe -"
        )
    return AudioError(f"{name}: no such file; check the path and its spelling")


def _head(path: Path, name: str) -> bytes:
    """Return the first bytes of a file that can be read and is not empty."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise _not_opened(error, name) from error
    if head:
        return head
    if name == STDIN:
        raise AudioError(f"{name}: nothing came in (0 bytes); check the command before the pipe")
    raise AudioError(f"{name}: the file is empty (0 bytes); copy or record it again")


def _not_opened(error: OSError, name: str) -> AudioError:
    cures = {
        errno.ELOOP: "name the recording itself, not a link",
        errno.ENAMETOOLONG: "check the path",
    }
    cure = cures.get(error.errno or 0, "check its rights and those of its folder")
    return AudioError(f"{name}: cannot be opened ({error.strerror}); {cure}")


def checked(stream: AudioStream) -> AudioStream:
    """Return the same stream, made sound by `sample_values`; one without samples is refused."""
    return replace(stream, blocks=_checked_blocks(stream))


def _checked_blocks(stream: AudioStream) -> Iterator[Samples]:
    done, name = 0, printable(stream.name)
    for block in sound(stream.blocks, stream.sample_rate, name, stream.damage):
        done += len(block)
        yield block
    if done == 0 and stream.damage.told:
        raise AudioError(f"{name}: {stream.damage.told[0]}")
    if done == 0:
        raise AudioError(f"{name}: holds no audio (0 samples); record or export it again")


def check_length(name: str, read_s: float, promised_s: float, damage: Damage) -> None:
    """Meet damage where clearly less was read than the header promised, both in seconds."""
    if promised_s - read_s > max(_GAP_SECONDS, promised_s * _GAP_SHARE):
        damage.meet(truncated(name, f"{promised_s:.1f} s promised, {read_s:.1f} s there"))


def truncated(name: str, told: str) -> AudioError:
    """Return the error for a recording of which a part is missing."""
    return AudioError(
        f"{name}: truncated: {told}; copy it again, or save what is there with "
        f"`ffmpeg -i {shlex.quote(name)} part.wav` and transcribe that"
    )


def damaged(name: str, after_s: float, told: str) -> AudioError:
    """Return the error for a recording that cannot be decoded past `after_s` seconds."""
    return AudioError(
        f"{name}: damaged or truncated after {after_s:.1f} s ({told}); copy or export it again"
    )


def _open_soundfile(path: Path, name: str, stack: ExitStack, damage: Damage) -> AudioStream | None:
    """Open with libsndfile, or return None where PyAV must do it."""
    import soundfile

    if path.suffix.lower() == ".raw":  # soundfile goes by the name here
        return None
    # names need not be text on Linux; soundfile encodes str strictly
    native = os.fsencode(path) if os.name == "posix" else str(path)
    try:
        file = stack.enter_context(soundfile.SoundFile(native))
    except soundfile.LibsndfileError:
        return None
    # a piped flac or wav may not know its length; mp3 may be inside a wav
    if not 0 < file.frames < _FRAMES_UNKNOWN or file.subtype.startswith("MPEG"):
        return None
    rate = int(file.samplerate)
    if promised := _SIZES.search(file.extra_info):
        said, there = (int(number) for number in promised.groups())
        if there < said < SIZE_UNKNOWN:
            seconds = file.frames / rate
            told = f"{seconds * said / max(there, 1):.1f} s promised, {seconds:.1f} s there"
            damage.meet(truncated(name, told))
    blocks = _soundfile_blocks(file, name, path, damage)
    return AudioStream(name, rate, file.frames / rate, blocks, damage)


def _overflows(path: Path, head: bytes) -> bool:
    """Tell a piped wav longer than the size it names in place of one it does not know (2 or 4 GB).

    libsndfile would stop there: after 3.4 h of CD quality.
    """
    size = int.from_bytes(head[4:8], "little")
    return head[:4] == b"RIFF" and size >= SIZE_UNKNOWN and path.stat().st_size - size > 1 << 20


def _soundfile_blocks(
    file: soundfile.SoundFile, name: str, path: Path, damage: Damage
) -> Iterator[Samples]:
    import soundfile

    done, rate = 0, file.samplerate
    while True:
        try:
            block = file.read(BLOCK, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            told = error.error_string.strip().rstrip(".").removeprefix("Error : ")
            met = damaged(name, done / rate, told)
            if not damage.tolerant:
                raise met from error
            yield from _past_damage(path, name, done, damage)
            if not damage.told:
                damage.meet(met)
            return
        if not len(block):
            break
        done += len(block)
        yield _mono(block)
    check_length(name, done / rate, file.frames / rate, damage)


def _past_damage(path: Path, name: str, done: int, damage: Damage) -> Iterator[Samples]:
    """Go on with FFmpeg, which finds sound behind damage, after `done` samples."""
    from stt.audio.containers import open_container

    with ExitStack() as stack:
        for block in open_container(path, name, _head(path, name), stack, damage).blocks:
            fresh = block[done:]
            done -= len(block) - len(fresh)
            yield fresh


def _mono(block: npt.NDArray[np.float32]) -> Samples:
    """Average the channels of [n, channels]."""
    if block.shape[1] == 1:
        return np.ascontiguousarray(block[:, 0])
    return np.asarray(block.mean(axis=1), np.float32)
