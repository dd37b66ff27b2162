"""Where a model to install comes from: what a user names, as files with their pins.

A model of the hub in onnx-asr's layout is found out about, and pinned to a commit.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from stt.engine.folder import ModelFamily
from stt.engine.manifest import MANIFEST, Manifest
from stt.errors import ModelError, UsageError
from stt.install.catalog import KNOWN, MODELS, PinnedFile, PinnedModel
from stt.install.download import download, import_folder
from stt.install.hub import IMPORT, line, model_info
from stt.install.installation import Installation
from stt.models import FAMILIES
from stt.settings.places import Places
from stt.system.temporary import temporary_folder

_FP32_FOLDER = "fp32/"


@dataclass(frozen=True, slots=True)
class Source:
    """Files to install, and where they are."""

    name: str
    """What the model is called here: its folder's name."""
    files: tuple[PinnedFile, ...]
    pinned: PinnedModel | None
    """None for a folder whose contents nobody published hashes of."""
    folder: Path | None
    """Copied from here; None: downloaded."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def origin(self) -> str:
        """For people."""
        return str(self.folder) if self.folder else f"{self.pinned and self.pinned.repo_id}"


def find_source(model: str, origin: str | None, places: Places, *, offline: bool = False) -> Source:
    """Understand MODEL and --from of `stt setup`.

    Args:
        model: a name in the catalogue, the name of an installed model, a folder in onnx-asr's
            layout, or OWNER/REPO[@REVISION].
        origin: where a catalogued model comes from instead: a folder, checked against the
            catalogue's pins, or another repository.
        places: where models are installed.
        offline: do not ask the hub.

    Raises:
        UsageError: neither of these.
        ModelError: the folder is not a model, or the hub cannot be asked.
    """
    if model not in MODELS and Path(model).is_dir():
        return _from_folder(Path(model), Path(model).resolve().name)
    if origin is not None and Path(origin).is_dir():
        pinned = MODELS.get(model)
        if pinned is None:
            return _from_folder(Path(origin), _last_part(model))
        return Source(model, pinned.files, pinned, Path(origin))
    for named in (origin, model):
        if named and not Path(named).is_dir() and _is_path(named):
            raise UsageError(f"{named}: there is no such folder; check the path")
    installed = None if "/" in model else places.find(model)
    if origin is None and model not in MODELS and installed and (installed / MANIFEST).is_file():
        return _installed(installed, offline=offline)
    on_hub = origin or (KNOWN[model].repo_id if model in KNOWN else model if "/" in model else None)
    if on_hub is not None:
        name = _last_part(model)
        pinned = _from_hub(on_hub, name, offline=offline)
        return Source(name, pinned.files, pinned, None)
    if model in MODELS:
        return Source(model, MODELS[model].files, MODELS[model], None)
    raise UsageError(
        f"no model named {model}; choose {', '.join(KNOWN)}, an installed one, a "
        "folder with a model in onnx-asr's layout, or OWNER/REPO on the hub"
    )


def _last_part(model: str) -> str:
    """The name here of OWNER/REPO[/DIR][@REVISION]: REPO or DIR."""
    return model.partition("@")[0].rstrip("/").rpartition("/")[2]


def _is_path(named: str) -> bool:
    """Whether it can only be meant as a path, not as OWNER/REPO."""
    return named.startswith((".", "/", "~")) or (os.sep != "/" and os.sep in named)


def _installed(folder: Path, *, offline: bool) -> Source:
    """Where an installed model came from."""
    manifest = Manifest.read(folder)
    if manifest.revision:
        pinned = _from_hub(f"{manifest.source}@{manifest.revision}", folder.name, offline=offline)
        return Source(folder.name, pinned.files, pinned, None)
    origin = Path(manifest.source)
    return _from_folder(origin if (origin / "config.json").is_file() else folder, folder.name)


def _from_hub(named: str, name: str, *, offline: bool) -> PinnedModel:
    repo_id, _, revision = named.partition("@")
    if "/" not in repo_id:
        raise UsageError(f"--from {named}: no such folder, and not OWNER/REPO on the hub")
    return resolve(repo_id, revision or None, name=name, offline=offline)


def _from_folder(folder: Path, name: str) -> Source:
    """A folder's FP32 model, as it is: there is nothing to hold it against."""
    try:
        kind = json.loads((folder / "config.json").read_text("utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder}: not a model in onnx-asr's layout (config.json: {error}); name a folder "
            "with config.json, vocab.txt and the .onnx files"
        ) from error
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None or not family.is_set_up:
        able = ", ".join(name for name, one in FAMILIES.items() if one.is_set_up)
        raise ModelError(f"{folder}: model_type {kind!r} cannot be set up; {able} can")
    names = ["config.json", *family.vocabulary]
    for graph in family.graphs("fp32"):
        names += [graph, *([f"{graph}.data"] if (folder / f"{graph}.data").exists() else [])]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        cure = "copy the model there whole"
        if (folder / MANIFEST).is_file():
            cure = f"bring FP32 back: `stt setup {name} --from DIR --keep-fp32`"
        raise ModelError(f"{folder}: {', '.join(missing)} missing; {cure}")
    files = tuple(PinnedFile(name, (folder / name).stat().st_size, None) for name in names)
    return Source(name, files, None, folder)


def fetch(source: Source, at: Installation, *, offline: bool) -> None:
    """Bring FP32 files into the folder, or see that they are there and right; note them.

    Args:
        source: where they come from.
        at: where they go.
        offline: ask nothing of the network.

    Raises:
        ModelError: one cannot be had, or is not as it was published or noted.
    """
    if source.folder is None and source.pinned is not None:
        report = at.events.progress
        hashes = download(source.pinned, source.files, at.folder, report, offline=offline)
    elif source.folder and source.folder.resolve() != at.folder.resolve():
        hashes = _copied(source, source.folder, at)
    else:
        hashes = {file.name: _own(source, at, file.name) for file in source.files}
    for file in source.files:
        at.manifest.files[file.name] = {"size": file.size, "sha256": hashes[file.name]}
    at.manifest.source = source.origin
    at.manifest.revision = source.pinned.revision if source.pinned else None
    at.manifest.licence = source.pinned.licence if source.pinned else ""
    at.save()


def _own(source: Source, at: Installation, name: str) -> str:
    """Return the SHA-256 of a file that lies here already, and came from nowhere else."""
    found, known = at.hash(name), at.manifest.files.get(name)
    if known and known["sha256"] != found:
        raise ModelError(
            f"{at.folder / name}: is damaged, and {at.manifest.source} is not there; "
            f"bring it back: `stt setup {source.name} --from DIR`"
        )
    return found


def _copied(source: Source, folder: Path, at: Installation) -> dict[str, str]:
    """Copy what is not there as the manifest has it; pinned files are held against the pins."""
    known = at.manifest.files
    kept = {
        file.name: known[file.name]["sha256"]
        for file in source.files
        if source.pinned is None
        and file.name in known
        and known[file.name]["size"] == file.size
        and at.is_right(file.name)
    }
    missing = [file for file in source.files if file.name not in kept]
    return kept | import_folder(source.pinned, missing, folder, at.folder, at.events.progress)


def resolve(repo_id: str, revision: str | None, *, name: str, offline: bool = False) -> PinnedModel:
    """Ask the hub for a model in onnx-asr's layout and pin its FP32 files to the commit found.

    Args:
        repo_id: OWNER/REPO, or OWNER/REPO/FOLDER where the files lie in a folder.
        revision: a branch, tag or commit; None: the hub's default branch.
        name: what the model is to be called here.
        offline: ask nothing of the network, as HF_HUB_OFFLINE does; then there is no answer.

    Raises:
        UsageError: `repo_id` has another form.
        ModelError: the hub cannot be reached or refuses, or the model is not of a known kind or
            lacks files.
    """
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*(/[\w-][\w.-]*)*/?", repo_id):
        raise UsageError(
            f"{repo_id}: is not a model on the hub; write OWNER/REPO or OWNER/REPO/DIR"
        )
    owner, repo, *inside = repo_id.rstrip("/").split("/")
    repo, prefix = f"{owner}/{repo}", "".join(f"{part}/" for part in inside)
    info = model_info(repo, revision, offline=offline)
    there = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    whole = PinnedModel(name, repo, str(info.sha), _licence(info), f"{repo_id} on the hub", ())
    family = _family(whole, _pinned(_needed(whole, prefix, ["config.json"], there), there)[0])
    names = ["config.json", *family.vocabulary, *family.graphs("fp32")]
    paths = _needed(whole, prefix, names, there)
    weights = [path for graph in paths for path in there if fnmatchcase(path, f"{graph}?data*")]
    return replace(whole, files=_pinned([*paths, *sorted(weights)], there))


def _licence(info: Any) -> str:
    tags = (tag.partition(":") for tag in info.tags or ())
    return next((value for key, _, value in tags if key == "license"), "not stated")


def _needed(
    model: PinnedModel, prefix: str, names: Sequence[str], there: Mapping[str, Any]
) -> list[str]:
    """Paths of the files by these names; ModelError when the repository lacks any.

    Some keep the graphs of each precision in a folder of its own.
    """
    paths = [
        inside if (path := prefix + name) not in there and inside in there else path
        for name in names
        for inside in [f"{prefix}{_FP32_FOLDER}{name}"]
    ]
    if missing := [path for path in paths if path not in there]:
        folders = sorted(path[:-12] for path in there if path.endswith("/config.json"))
        hint = f"; models in folders of it: {', '.join(folders)}" if folders else ""
        raise ModelError(
            f"{model.repo_id}: has no {', '.join(missing)}, so it is no FP32 model in onnx-asr's "
            f"layout{hint}; choose another, or {IMPORT}"
        )
    return paths


def _pinned(paths: Sequence[str], there: Mapping[str, Any]) -> tuple[PinnedFile, ...]:
    pinned = []
    for path in paths:
        entry, name = there[path], PurePosixPath(path).name
        sha256 = entry.lfs.sha256 if entry.lfs else None
        git_blob = None if entry.lfs else entry.blob_id  # of LFS files it is the pointer's
        where = path if path != name else None
        pinned.append(PinnedFile(name, int(entry.size or 0), sha256, where, git_blob))
    return tuple(pinned)


def _family(model: PinnedModel, config: PinnedFile) -> ModelFamily:
    """The model's family as its config.json says, fetched and proven."""
    with temporary_folder("config") as folder:
        download(model, [config], folder, lambda *_: None)
        try:
            content = json.loads((folder / "config.json").read_text("utf-8"))
        except ValueError as error:
            raise ModelError(
                f"{model.repo_id}: its {config.path_in_repo} is not JSON ({line(error)}); choose "
                "another model"
            ) from error
    name = content.get("model_type") if isinstance(content, dict) else None
    family = FAMILIES.get(name) if isinstance(name, str) else None
    if family is None or not family.is_set_up:
        able = ", ".join(name for name, one in FAMILIES.items() if one.is_set_up)
        raise ModelError(
            f"{model.repo_id}: model_type {name!r} in its {config.path_in_repo} is none of "
            f"{able}; choose another model"
        )
    return family
