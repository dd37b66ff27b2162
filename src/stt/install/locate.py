"""Installed models: from the `model` setting to a folder, what there is, and taking one away."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stt.engine.folder import PRECISIONS, STARTER, ModelFolder
from stt.engine.manifest import MANIFEST, Manifest
from stt.errors import ModelError, SttError
from stt.install.catalog import KNOWN, MODELS, Known
from stt.install.installation import exclusive
from stt.models import inspect
from stt.settings.places import Places
from stt.system.files import expanded
from stt.types import ReportProgress


def locate(model: str, places: Places, report: ReportProgress) -> ModelFolder:
    """Return the folder of a model, building the starter where it is the one.

    Args:
        model: `auto` (a Parakeet where one is installed, else the starter), an installed model's
            name, or the path of a model folder.
        places: where models are looked for.
        report: called while the starter is built.

    Raises:
        ModelError: no such model, or its folder is not usable.
    """
    if model == "auto":
        model = next(name for name in KNOWN if name == STARTER or places.find(name))
    if model == STARTER:
        return inspect(starter(places, report))
    is_path = os.sep in model or (os.altsep is not None and os.altsep in model)
    named = None if is_path or model in (".", "..") else places.find(model)
    if named is not None:
        return inspect(named)
    path = expanded(Path(model))
    if path.is_dir() or is_path:
        return inspect(path)
    have = ", ".join(dict.fromkeys([*sorted(places.installed()), STARTER]))
    looked = ", ".join(str(place.folder) for place in places)
    raise ModelError(
        f"no model named {model} (installed: {have}; looked in {looked}); "
        "install one with `stt setup`, or give the path of a model folder"
    )


def starter(places: Places, report: ReportProgress) -> Path:
    """Return the starter's folder: the first that is whole, else it is built, or built anew.

    Raises:
        ModelError: it cannot be built.
    """
    from stt.install.starter import ensure_starter, is_built

    built = next((p.folder / STARTER for p in places if is_built(p.folder)), None)
    return built or ensure_starter(places.target(STARTER), progress=report)


@dataclass(frozen=True, slots=True)
class Item:
    """A model that is installed, or has a name under which it can be."""

    name: str
    folder: Path | None
    """None: not installed."""
    precisions: tuple[str, ...]
    """Those that can run."""
    problem: str | None
    """Why an installed one cannot run at all."""
    size: int
    """Bytes: on disk, or of the download."""
    languages: str
    licence: str


def inventory(places: Places) -> list[Item]:
    """List the installed models, first those with a name in the catalogue, then what is to be had.

    A model that lies in several places is listed as it is found: once.
    """
    found = places.installed()
    names = [name for name in KNOWN if name in found]
    names += sorted(found.keys() - KNOWN.keys())
    there = [_installed(found[name]) for name in names]
    return there + [
        Item(known.name, None, (), None, known.size, known.languages, known.licence)
        for known in KNOWN.values()
        if known.name not in found
    ]


def _installed(folder: Path) -> Item:
    precisions: tuple[str, ...] = ()
    problem = None
    try:
        problems = inspect(folder).problems
        precisions = tuple(name for name in PRECISIONS if problems[name] is None)
    except ModelError as error:
        problem = str(error)
    known = _known(folder)
    licence = known.licence if known else ""
    if folder.name != STARTER:
        with suppress(ModelError):  # reported when the model is used
            licence = Manifest.read(folder).licence or licence
    languages = known.languages if known else ""
    return Item(folder.name, folder, precisions, problem, size_of(folder), languages, licence)


def _known(folder: Path) -> Known | None:
    """What the catalogue knows of an installed model, whatever it is called here."""
    if folder.name == STARTER or not (folder / MANIFEST).is_file():
        return KNOWN.get(folder.name)
    try:
        source = Manifest.read(folder).source
    except ModelError:
        return None
    repos = {model.repo_id: name for name, model in MODELS.items()}
    repos |= {known.repo_id: known.name for known in KNOWN.values() if known.repo_id}
    return KNOWN.get(repos.get(source, ""))


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder; none where it is a link to another."""
    if folder.is_symlink():
        return 0
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def lying(name: str, places: Places) -> Iterator[Path]:
    """Yield an installed model's folder and what an interrupted set-up of it left beside it.

    Where it lies in several places, of the first of them: the one that is used.
    """
    if name in ("", ".", "..") or Path(name).name != name:
        return
    for place in places:
        folders = (place.folder / name, place.folder / f".{name}.partial")
        if there := [folder for folder in folders if folder.is_dir()]:
            yield from there
            return


def remove(folder: Path) -> int:
    """Delete a model's folder; how many bytes that freed.

    It loses its name first, so that nothing finds half of it. Waits for a set-up that is at work.

    Raises:
        SttError: it cannot be deleted.
    """
    name = folder.name.removeprefix(".").removesuffix(".partial")
    gone = folder.parent / f".{name}.removed"
    try:
        with exclusive(folder.parent / f".{name}.lock"):
            if folder.is_symlink():  # a model that lies elsewhere stays there
                folder.unlink()
                return 0
            freed = size_of(folder)
            shutil.rmtree(gone, ignore_errors=True)  # of an earlier removal that was interrupted
            folder.rename(gone)
            shutil.rmtree(gone)
    except OSError as error:
        raise SttError(
            f"{error.filename or folder}: cannot be deleted ({error.strerror or error}); check "
            "the rights of the folder, and run it again"
        ) from error
    return freed
