"""From the `model` setting to a model folder that can be loaded."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from stt.errors import ModelError
from stt.models.catalog import PARAKEET_V3, STARTER
from stt.models.folder import ModelFolder, inspect

ReportProgress = Callable[[str, int, int], None]
"""(stage, done, total): drawn by the command line, ignored by default elsewhere."""


def locate(model: str, models_dir: Path, report: ReportProgress) -> ModelFolder:
    """Return the folder of a model, building the starter where it is the one.

    Args:
        model: `auto` (Parakeet where installed, else the starter), a name in `models_dir`, or the
            path of a model folder.
        models_dir: where set-up installs.
        report: called while the starter is built.

    Raises:
        ModelError: no such model, or its folder is not usable.
    """
    if model == "auto":
        installed = (models_dir / PARAKEET_V3.name / "config.json").exists()
        model = PARAKEET_V3.name if installed else STARTER
    if model == STARTER:
        from stt.models.starter import ensure_starter

        return inspect(ensure_starter(models_dir, progress=report))
    is_path = os.sep in model or (os.altsep is not None and os.altsep in model)
    named = models_dir / model
    if is_path or (not named.is_dir() and Path(model).is_dir()):
        return inspect(Path(model).expanduser())
    if not named.is_dir():
        names = sorted(p.name for p in models_dir.glob("*/config.json") for p in [p.parent])
        have = ", ".join(dict.fromkeys([*names, STARTER]))
        raise ModelError(
            f"no model named {model} in {models_dir} (there: {have}); "
            "install one with `stt setup`, or give the path of a model folder"
        )
    return inspect(named)
