"""A loaded model as the rooms hold it, with its recogniser and cutting to be replaced."""

from __future__ import annotations

from pathlib import Path

from stt.settings.loading import load_settings
from stt.transcriber import ModelTranscriber, load_with


def load_model(model: str | Path, **flags: object) -> ModelTranscriber:
    """Load a model; `flags` as for `stt.load`."""
    return load_with(load_settings(None, {"model": str(model), **flags}))
