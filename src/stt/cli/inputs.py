"""From what the user named to the recordings to read and the files to write."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path

from stt.audio.files import AUDIO_SUFFIXES, STDIN, check_there
from stt.errors import AudioError
from stt.system.files import folded, printable

_MOST_FOLDERS = 2_000
"""Folders looked into to tell what is passed over."""


@dataclass(frozen=True, slots=True)
class Input:
    """One recording to transcribe."""

    source: str
    """A path or '-'."""
    stem: Path
    """Where its results go below the output folder, without suffix."""


def collect(
    paths: Sequence[str], *, recursive: bool, waiting: bool = False
) -> tuple[list[Input], list[AudioError]]:
    """Expand folders and give each recording, once, a result name of its own.

    Links are followed, but no folder is searched twice; names that begin with a dot are passed
    over unless named outright.

    Returns:
        The recordings in the order named (folders sorted), and an error for each folder that cannot
        be searched, or, unless they are waited for, holds no recording.
    """
    found: dict[tuple[str, str, int], tuple[str, Path]] = {}
    errors: list[AudioError] = []
    for named in paths:
        if not named:
            errors.append(AudioError("'': an empty name; name a recording"))
            continue
        if named == STDIN or not os.path.isdir(named):  # noqa: PTH112 - never raises
            relative = Path("stdin") if named == STDIN else Path(Path(named).name)
            found.setdefault(_identity(named), (named, relative))
            continue
        unread: list[AudioError] = []
        inside = _recordings(named, recursive, unread)
        if not inside and not unread and not waiting:
            deeper = not recursive and any(_folders(named, True, lambda _: None))
            hint = "add --recursive for the folders in it" if deeper else "name a recording"
            unread.append(AudioError(f"{printable(named)}: no recordings in this folder; {hint}"))
        errors += unread
        for path in inside:
            found.setdefault(_identity(str(path)), (str(path), path.relative_to(named)))
    return _named_apart(found.values()), errors


def readable(inputs: Sequence[Input]) -> tuple[list[Input], list[AudioError]]:
    """Look at recordings, which is cheap, before a model is loaded, which is not.

    Returns:
        Those that are there and can be read, and an error for each of the others.
    """
    there: list[Input] = []
    errors: list[AudioError] = []
    for item in inputs:
        try:
            check_there(item.source)
            there.append(item)
        except AudioError as error:
            errors.append(error)
    return there, errors


def all_missing(sources: Sequence[str]) -> list[AudioError]:
    """Return an error for each recording where not one is there; none where one is."""
    if any(source == STDIN or os.path.exists(source) for source in sources):  # noqa: PTH110
        return []
    return readable([Input(source, Path()) for source in sources])[1]


def passed_over(paths: Sequence[str], apart: Path | None = None) -> Iterator[str]:
    """Yield a line for each folder named that has recordings, and more in folders inside.

    `apart`: the absolute path of a folder whose recordings do not count. A very big tree is looked
    at in part.
    """
    for named in paths:
        if not named or named == STDIN or not os.path.isdir(named):  # noqa: PTH112 - never raises
            continue
        walk = _folders(named, True, lambda _: None)
        if not next(walk, []):  # `collect` tells of this one
            continue
        inside = [
            found
            for found in islice(walk, _MOST_FOLDERS)
            if found and (apart is None or apart not in found[0].absolute().parents)
        ]
        if inside:
            recordings, folders = sum(map(len, inside)), len(inside)
            yield (
                f"{printable(named)}: {recordings} recording{'s' * (recordings > 1)} in "
                f"{folders} folder{'s' * (folders > 1)} inside it passed over; "
                "add --recursive to take them too"
            )


def _identity(named: str) -> tuple[str, str, int]:
    """Tell one entry of one folder, however it is written; links to it are entries of their own.

    Where letter case makes no difference to the disk, it makes none here.
    """
    if named == STDIN:
        return STDIN, STDIN, 0
    folder, name = os.path.split(named)
    try:
        inode = os.stat(named).st_ino  # noqa: PTH116
    except (OSError, ValueError):
        return folder, name, 0  # missing: reported once when it is opened
    return os.path.realpath(folder), folded(name), inode


def _recordings(folder: str, recursive: bool, unread: list[AudioError]) -> list[Path]:
    """Return the recordings in a folder, sorted; folders that cannot be searched go to `unread`."""

    def note(error: OSError) -> None:
        unread.append(
            AudioError(
                f"{printable(str(error.filename))}: cannot be searched ({error.strerror}); "
                "check its rights"
            )
        )

    return sorted(path for inside in _folders(folder, recursive, note) for path in inside)


def _folders(folder: str, recursive: bool, note: Callable[[OSError], None]) -> Iterator[list[Path]]:
    """Walk the folders from `folder` on, each real one once, giving their recordings."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=note, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith(".")) if recursive else []
        yield [
            path
            for name in names
            if (path := Path(place, name)).suffix.lower() in AUDIO_SUFFIXES
            and not name.startswith(".")
            and os.path.isfile(path)  # noqa: PTH113 - never raises
        ]


def _named_apart(found: Iterable[tuple[str, Path]]) -> list[Input]:
    """Keep `talk` for talk.mp3, but `talk.mp3` and `talk.wav` where both are there.

    The same name in two folders is numbered: talk, talk-2. Names are apart on every disk: letter
    case and Unicode form alone do not tell them apart.
    """
    found = list(found)
    names = Counter(folded(str(relative)) for _, relative in found)
    stems = Counter(folded(str(relative.with_suffix(""))) for _, relative in found)
    inputs: list[Input] = []
    taken: set[str] = set()
    for source, relative in found:
        stem = relative.with_suffix("")
        shared = stems[folded(str(stem))] > 1 and names[folded(str(relative))] == 1
        numbered = (stem.with_name(f"{stem.name}-{number}") for number in count(2))
        wanted = chain([relative if shared else stem], numbered)
        free = next(path for path in wanted if folded(str(path)) not in taken)
        taken.add(folded(str(free)))
        inputs.append(Input(source, free))
    return inputs
