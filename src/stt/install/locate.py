"""From the `model` setting to a model folder that can be loaded."""

from __future__ import annotations

import os
from pathlib import Path

from stt.engine.folder import STARTER, ModelFolder
from stt.errors import ModelError
from stt.install.catalog import KNOWN
from stt.models import inspect
from stt.settings.places import Places
from stt.system.folders import expanded
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
