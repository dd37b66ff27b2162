"""Any model of the hub in onnx-asr's layout: found out what it is, and pinned to a commit."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from stt.engine.folder import ModelFamily
from stt.errors import ModelError, UsageError
from stt.install.catalog import PinnedFile, PinnedModel
from stt.install.download import download
from stt.install.hub import IMPORT, line, model_info
from stt.models import FAMILIES
from stt.system.temporary import temporary_folder

_FP32_FOLDER = "fp32/"


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
