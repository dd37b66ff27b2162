"""What libsndfile reads: wav, flac, aiff, au, caf and w64.

It knows exactly when one is cut short. It stops where the header says, so headers that are stale
and recordings joined in one file are found first, see `pieces`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from stt.audio.damage import Damage, check_length, damaged, is_placeholder, is_short
from stt.audio.pieces import Piece, Spliced, pieces
from stt.audio.selection import Selection
from stt.audio.stream import BLOCK, RawAudio
from stt.types import Samples

if TYPE_CHECKING:
    import soundfile

# What libsndfile is asked to open. Left to itself it goes by the suffix where it knows no header,
# and a text called .au, .vox or .gsm becomes noise.
HEADS = (b"RIFF", b"RIFX", b"RF64", b"riff", b"fLaC", b"FORM", b".snd", b"caff")
_FRAMES_UNKNOWN = 1 << 62
_SIZES = re.compile(r"^ *(?:data|SSND|riff|Data Size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)


def open_sound_file(
    path: Path, name: str, stack: ExitStack, selection: Selection, damage: Damage
) -> RawAudio | None:
    """Open with libsndfile, or return None where PyAV must do it.

    Args:
        path: a regular file that begins with one of HEADS.
        name: what messages call it.
        stack: closes it.
        selection: its start is sought to where that costs nothing.
        damage: takes what is wrong with it.
    """
    if path.suffix.lower() == ".raw":  # soundfile goes by the name here
        return None
    found = pieces(path, name, damage)
    files: list[soundfile.SoundFile] = []
    for piece in found:
        file = _opened(path, piece, stack)
        if file is None and not files:
            return None
        if file is None or (files and file.samplerate != files[0].samplerate):
            kind = f"at {file.samplerate:,} Hz" if file else "of another kind"
            damage.note(f"a recording {kind} that lies behind its end is left out: cut it off")
        else:
            files.append(file)
    first, rate = files[0], int(files[0].samplerate)
    if len(files) == 1 and found[0].is_whole_file:
        _check_sizes(first, name, damage)
    elif len(files) > 1:
        damage.note(f"{len(files)} recordings joined in one file: all of them are read")
    frames = sum(file.frames for file in files)
    began = 0
    if len(files) == 1 and 0 < (start := round(selection.start * rate)) < frames:
        began = first.seek(start)
    blocks = _joined(files, name, path, began, damage)
    return RawAudio(rate, frames / rate, first.channels, blocks, began)


def _opened(path: Path, piece: Piece, stack: ExitStack) -> soundfile.SoundFile | None:
    import soundfile

    # names need not be text on Linux; soundfile encodes str strictly
    source = os.fsencode(path) if os.name == "posix" else str(path)
    try:
        if not piece.is_whole_file:
            source = stack.enter_context(Spliced(path, piece))  # type: ignore[assignment]
        file = stack.enter_context(soundfile.SoundFile(source))
    except soundfile.LibsndfileError:
        return None
    # a piped flac or wav may not know its length; mp3 may be inside a wav
    if not 0 < file.frames < _FRAMES_UNKNOWN or file.subtype.startswith("MPEG"):
        return None
    return file


def _check_sizes(file: soundfile.SoundFile, name: str, damage: Damage) -> None:
    """Meet damage where the header promises clearly more than there is."""
    if not (promised := _SIZES.search(file.extra_info)):
        return
    said, there = (int(number) for number in promised.groups())
    if there >= said:
        return
    seconds = file.frames / file.samplerate
    stated = seconds * said / max(there, 1)
    if is_placeholder(said):
        if name != "-":  # what is piped in seldom knows its length
            damage.note("its header does not know its length; it is read to its end")
    elif is_short(seconds, stated):
        check_length(name, seconds, stated, damage)
    else:
        damage.note(f"{said - there:,} bytes are missing at its end")


def _joined(
    files: list[soundfile.SoundFile], name: str, path: Path, began: int, damage: Damage
) -> Iterator[Samples]:
    done = began
    for number, file in enumerate(files):
        alone = len(files) == 1
        for block in _blocks(file, name, path if alone else None, done, damage):
            done += len(block)
            yield block
        if number + 1 < len(files):
            file.close()


def _blocks(
    file: soundfile.SoundFile, name: str, path: Path | None, done: int, damage: Damage
) -> Iterator[Samples]:
    """Yield the rest of a file, `done` samples having been read; `path`: FFmpeg may read it too."""
    import soundfile

    rate, begun = file.samplerate, done - file.tell()
    while True:
        try:
            block = file.read(BLOCK, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            detail = error.error_string.strip().rstrip(".").removeprefix("Error : ")
            met = damaged(name, done / rate, detail)
            at_end = not is_short(0.0, (begun + file.frames - done) / rate)
            if not damage.tolerant and not at_end:
                raise met from error
            behind = Damage(tolerant=True)
            for block in _past_damage(path, name, done, behind) if path else ():
                done += len(block)
                yield block
            missing = (begun + file.frames - done) / rate
            if not is_short(0.0, missing) and at_end:
                damage.note(f"its last {max(0.0, missing):.2f} s cannot be read ({detail})")
                return
            damage.failures += behind.failures
            if not damage.failures:
                damage.meet(met)
            return
        if not len(block):
            break
        done += len(block)
        yield block
    check_length(name, done / rate, (begun + file.frames) / rate, damage)


def _past_damage(path: Path, name: str, done: int, damage: Damage) -> Iterator[Samples]:
    """Go on with FFmpeg, which finds sound behind damage, after `done` samples."""
    from stt.audio.containers import open_container

    with ExitStack() as stack:
        raw = open_container(path, name, stack, Selection(), damage)
        for block in raw.blocks:
            fresh = block[done:]
            done -= len(block) - len(fresh)
            yield fresh
