"""The digits model, installed for a test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stt.engine.sessions import Runtime
from stt.install import measure, proof
from stt.install.installation import Events, Installation
from stt.install.observation import bundled_clips
from stt.install.setup import SetupOptions, set_up
from stt.install.source import find_source
from stt.models import inspect
from stt.models.onnx_asr_edge import load_tdt
from stt.settings.places import Places
from stt.types import ReportProgress
from support.paths import DIGITS

CLIPS = bundled_clips(DIGITS / "clips")
NONE = SetupOptions(precisions=())


def compare(
    folder: Path, precisions: list[str], provider: str, report: ReportProgress
) -> dict[str, measure.Speed]:
    """Measure nothing."""
    report(f"measuring {' and '.join(precisions)} on {provider}", 0, 1)
    return {p: measure.Speed(p, provider, 10.0, 0.1, 1.0) for p in precisions}


def make_quick(patch: pytest.MonkeyPatch) -> None:
    """Let set-up measure nothing and prove on short audio."""
    patch.setattr(proof, "durations", lambda longest_s: (0.3, 5.0))
    patch.setattr(measure, "compare", compare)


class Place:
    """An installed digits model, and what set-up said of it."""

    def __init__(self, root: Path, like: Place | None = None) -> None:
        """`like`: one that was set up already, to be copied."""
        self.notes: list[str] = [] if like is None else list(like.notes)
        self.events = Events(lambda *_: None, self.notes.append)
        stick = root / "stick" / "digits"
        shutil.copytree(DIGITS, stick, ignore=shutil.ignore_patterns("clips", "README.md"))
        self.source = find_source(str(stick), None, Places.only(Path("models")))
        self.models = root / "models"
        if like is None:
            self.folder = self.set_up()
        else:
            self.folder = shutil.copytree(like.folder, self.models / "digits")

    def set_up(self, order: SetupOptions = NONE) -> Path:
        """Run it; `notes` are of this run."""
        self.notes.clear()
        return set_up(self.source, self.models, order, self.events, CLIPS)

    def at(self) -> Installation:
        return Installation(self.folder, self.events)

    def graph(self) -> Path:
        """The encoder that FP32 runs."""
        return Path(
            load_tdt(inspect(self.folder), "fp32", Runtime("cpu", 1)).asr._encoder._model_path
        )
