"""From what the user named to the recordings to read and the files to write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stt.audio.files import AUDIO_SUFFIXES, STDIN
from stt.errors import AudioError


@dataclass(frozen=True, slots=True)
class Input:
    """One recording to transcribe."""

    source: str
    """A path or '-'."""
    stem: Path
    """Where its results go below the output folder, without suffix."""


def collect(paths: Sequence[str], *, recursive: bool) -> tuple[list[Input], list[AudioError]]:
    """Expand folders and give each recording, once, a result name of its own.

    Returns:
        The recordings in the order named (folders sorted), and an error for each folder that holds
        no recording.
    """
    found: dict[str, Path] = {}
    errors: list[AudioError] = []
    for named in paths:
        folder = Path(named)
        if named == STDIN or not folder.is_dir():
            relative = Path("stdin" if named == STDIN else folder.name)
            found.setdefault(named, relative)
            continue
        inside = list(_recordings(folder, recursive=recursive))
        if not inside:
            deeper = not recursive and next(_recordings(folder, recursive=True), None)
            hint = "add --recursive for the folders in it" if deeper else "name a recording"
            errors.append(AudioError(f"{named}: no recordings in this folder; {hint}"))
        for path in inside:
            found.setdefault(str(path), path.relative_to(folder))
    return _named_apart(found), errors


def _recordings(folder: Path, *, recursive: bool) -> Iterator[Path]:
    entries = folder.rglob("*") if recursive else folder.iterdir()
    yield from sorted(
        path
        for path in entries
        if path.suffix.lower() in AUDIO_SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
    )


def _named_apart(found: dict[str, Path]) -> list[Input]:
    """Keep `talk` for talk.mp3, but `talk.mp3` and `talk.wav` where both are there."""
    same = Counter(relative.with_suffix("") for relative in found.values())
    inputs: list[Input] = []
    taken: Counter[Path] = Counter()
    for source, relative in found.items():
        stem = relative.with_suffix("")
        if same[stem] > 1:
            stem = relative
        taken[stem] += 1
        if taken[stem] > 1:  # the same name in two folders named apart
            stem = stem.with_name(f"{stem.name}-{taken[stem]}")
        inputs.append(Input(source, stem))
    return inputs
