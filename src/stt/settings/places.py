"""Where models are: every folder that is looked in, and the one that new models go to.

A model is found in the first of these that holds it:

1. the setting `models_dir`; without it `models` beside the settings file in force, unless that is
   the user's own file
2. `models` of the clone of the repository that this package runs from, where it does
3. `models_dir` of the user's own settings file, though another file is in force
4. `models` in the user's data folder

All but the first are the same from every folder, so a model in one of them is found from
everywhere. Set-up writes to `models_dir` where that is set; else to where a model of this name is
installed; a new one goes to the clone in the clone's own folder, else to the third or fourth.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stt.errors import ModelError
from stt.system.files import data_folder

MODELS = "models"
_MARKS = ("config.json", "manifest.json")
"""A folder with one of these is a model's, whole or not."""


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that models are looked for in; it need not exist."""

    folder: Path
    what: str
    """Which one it is, for people."""
    everywhere: bool
    """Whether it is looked in from every folder."""


@dataclass(frozen=True, slots=True)
class Places:
    """All of them, in the order in which they are looked in."""

    all: tuple[Place, ...]
    _preferred: tuple[Path, ...]
    """Where new models go: the first that can be written to."""
    _named: bool = False
    """Whether the first is the setting `models_dir`."""

    @classmethod
    def only(cls, folder: Path) -> Places:
        """One folder and no other."""
        place = Place(folder.absolute(), "the setting models_dir", everywhere=False)
        return cls((place,), (place.folder,), _named=True)

    def __iter__(self) -> Iterator[Place]:
        return iter(self.all)

    def find(self, name: str) -> Path | None:
        """The folder of an installed model; None where there is none of this name."""
        folders = [place.folder / name for place in self.all] if name else []
        return next((f for f in folders if any((f / mark).is_file() for mark in _MARKS)), None)

    def installed(self) -> dict[str, Path]:
        """Name -> folder of every model, as `find` finds it."""
        found: dict[str, Path] = {}
        for place in self.all:
            for folder in sorted(place.folder.glob("[!.]*/")):
                if any((folder / mark).is_file() for mark in _MARKS):
                    found.setdefault(folder.name, folder)
        return found

    @property
    def new(self) -> Path:
        """The folder that new models go to.

        Raises:
            ModelError: there is none that can be written to.
        """
        for folder in self._preferred:
            if _writable(folder):
                return folder
        folders = ", ".join(str(folder) for folder in self._preferred) or "there is no home folder"
        raise ModelError(
            f"no folder to put models in can be written to ({folders}); name one of yours in "
            "STT_MODELS_DIR, or with `stt config set models_dir DIR`"
        )

    def target(self, name: str) -> Path:
        """The folder in which set-up works on its sub-folder `name`.

        Raises:
            ModelError: as of `new`.
        """
        found = None if self._named else self.find(name)
        return self.new if found is None else found.parent

    def described_reach(self, folder: Path) -> str:
        """From where a model in a models folder is found, for people."""
        place = next((place for place in self.all if place.folder == folder), None)
        if place is None or not place.everywhere:
            return f"found where {place.what if place else 'its path is given'} is in force"
        return "found from every folder"


def find_places(named: str | None, beside: Path | None, users: str | None) -> Places:
    """List the places.

    Args:
        named: the setting `models_dir` in force.
        beside: folder of the settings file in force; None where there is none or it is the user's.
        users: `models_dir` of the user's own settings file.
    """
    clone, data = clone_models(), user_models()
    found: list[Place] = []
    own = None if beside is None else beside / MODELS
    if named is not None:
        found.append(Place(Path(named).absolute(), "the setting models_dir", named == users))
    elif own is not None:
        found.append(Place(own, f"{beside}'s settings file", own == clone))
    if clone is not None:
        found.append(Place(clone, "the clone that stt runs from", everywhere=True))
    if users is not None:
        found.append(Place(Path(users).absolute(), "models_dir of your own settings file", True))
    if data is not None:
        found.append(Place(data, "your data folder", everywhere=True))
    places = tuple({place.folder: place for place in reversed(found)}.values())[::-1]
    in_clone = clone if own == clone else None
    users_folder = None if users is None else Path(users).absolute()
    if named is not None:
        return Places(places, (Path(named).absolute(),), _named=True)
    wanted = (in_clone, users_folder, data, clone, own)
    return Places(places, tuple(dict.fromkeys(folder for folder in wanted if folder is not None)))


def clone_models() -> Path | None:
    """`models` of the clone this package runs from; None where it is installed in the usual way."""
    package = Path(__file__).resolve().parents[1]
    top = package.parents[1]
    is_clone = package.parent.name == "src" and (top / "pyproject.toml").is_file()
    return top / MODELS if is_clone else None


def user_models() -> Path | None:
    """`models` in the user's data folder; None where the user has no home."""
    folder = data_folder()
    return None if folder is None else folder.absolute() / MODELS


def _writable(folder: Path) -> bool:
    """Whether the folder is there and can be written to, or can be made."""
    there = next((p for p in (folder, *folder.parents) if p.exists()), folder)
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
