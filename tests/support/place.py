"""The digits model, installed for a test."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from stt.engine.manifest import Manifest
from stt.engine.sessions import Runtime
from stt.install import conversion, measure, proof
from stt.install.installation import Events, Installation
from stt.install.observation import bundled_clips
from stt.install.prover import check
from stt.install.setup import SetupOptions, set_up
from stt.install.source import find_source
from stt.models import inspect
from stt.models.onnx_asr_edge import load_tdt
from stt.settings.places import Places
from stt.types import ReportProgress
from support.paths import DIGITS

CLIPS = bundled_clips(DIGITS / "clips")


def compare(
    folder: Path, precisions: list[str], provider: str, report: ReportProgress
) -> dict[str, measure.Speed]:
    """Measure nothing."""
    report(f"measuring {' and '.join(precisions)} on {provider}", 0, 1)
    return {p: measure.Speed(p, provider, 10.0, 0.1, 1.0) for p in precisions}


def make_quick(patch: pytest.MonkeyPatch) -> None:
    """Let set-up measure nothing, prove on short audio, and need no unsigned weights."""
    patch.setattr(proof, "durations", lambda longest_s: (0.3, 5.0))
    patch.setattr(measure, "compare", compare)
    patch.setattr(conversion, "cpu_saturates", lambda: False)


class Place:
    """A folder of models, the folder that its digits model comes from, and what set-up said."""

    def __init__(self, root: Path, made: Path | None = None) -> None:
        """`made`: a model folder that was set up elsewhere, to be copied; None: nothing yet."""
        self.root, self.models, self.clips = root, root / "models", CLIPS[:4]
        self.folder = self.models / "digits"
        self.origin = root / "stick" / "digits"
        shutil.copytree(DIGITS, self.origin, ignore=shutil.ignore_patterns("clips", "README.md"))
        self.source = find_source(str(self.origin), None, Places.only(Path("models")))
        self.stages: list[str] = []
        self.notes: list[str] = []
        self.events = Events(self._progress, self.notes.append)
        if made is not None:
            shutil.copytree(made, self.folder)
            self.note(source=str(self.origin))

    def _progress(self, stage: str, done: int, total: int) -> None:
        assert 0 <= done <= total
        if stage not in self.stages[-1:]:
            self.stages.append(stage)

    def set_up(self, *precisions: str, **options: Any) -> Place:
        """Run it; `stages` and `notes` are of this run."""
        self.stages.clear()
        self.notes.clear()
        set_up(
            self.source, self.models, SetupOptions(precisions, **options), self.events, self.clips
        )
        return self

    def check(self) -> list[str]:
        """What is wrong with it."""
        return check(self.folder, self.events, self.clips)

    def at(self) -> Installation:
        return Installation(self.folder, self.events)

    @property
    def manifest(self) -> Manifest:
        return Manifest.read(self.folder)

    def note(self, **changes: Any) -> None:
        """Change the manifest."""
        manifest = self.manifest
        for name, value in changes.items():
            setattr(manifest, name, value)
        manifest.save(self.folder)

    @property
    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}

    @property
    def made(self) -> list[str]:
        """The graphs that were converted."""
        return [s for s in self.stages if s.startswith(("converting", "quantising"))]

    def said(self, *words: str) -> bool:
        """Whether there was a note with all of these words."""
        return any(all(word in note for word in words) for note in self.notes)

    def graph(self) -> Path:
        """The encoder that FP32 runs."""
        return Path(
            load_tdt(inspect(self.folder), "fp32", Runtime("cpu", 1)).asr._encoder._model_path
        )
