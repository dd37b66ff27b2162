"""A new family is one file and one line: set-up, proof, choice, files and live work with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stt.cli import main
from stt.engine.folder import ModelFolder
from stt.engine.manifest import Manifest
from stt.engine.precision import Known, choose
from stt.engine.recognizer import Decoded
from stt.errors import ModelError
from stt.events import Final
from stt.install import measure
from stt.install.installation import Events
from stt.install.observation import bundled_clips
from stt.install.prover import check
from stt.install.setup import SetupOptions, set_up
from stt.install.source import find_source
from stt.models import FAMILIES, inspect
from stt.settings.places import Places
from stt.streaming.stream import live
from stt.types import Samples
from support import toy_family
from support.loading import load_model
from support.paths import DIGITS

CLIPS = tuple(replace(clip, text="hum") for clip in bundled_clips(DIGITS / "clips"))


@pytest.fixture(autouse=True)
def one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, toy_family.Toy.name, toy_family.Toy())  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        measure,
        "compare",
        lambda folder, precisions, provider, report: {
            p: measure.Speed(p, provider, 20.0 if p == "fp16" else 10.0, 0.1, 1.0)
            for p in precisions
        },
    )


@pytest.fixture
def notes() -> list[str]:
    return []


def set_up_toy(place: Path, notes: list[str]) -> Path:
    """Set the toy up with FP16."""
    origin = toy_family.build(place / "stick" / "toy")
    source = find_source(str(origin), None, Places.only(place / "models"))
    events = Events(lambda *_: None, notes.append)
    return set_up(source, place / "models", SetupOptions(precisions=("fp16",)), events, CLIPS)


@pytest.fixture
def installed(tmp_path: Path, notes: list[str]) -> Path:
    return set_up_toy(tmp_path, notes)


def test_set_up_fetches_converts_and_proves_it(installed: Path, notes: list[str]) -> None:
    assert {"config.json", "words.txt", "listener.onnx", "listener.fp16.onnx"} <= {
        path.name for path in installed.iterdir()
    }
    entry = Manifest.read(installed).precisions["fp16"]
    assert entry["proven"], notes
    figures = {found["name"]: found["figure"] for found in entry["checks"]}
    assert figures["tokens"] == 1
    assert 0 < figures["encoder error"] < 0.01
    assert "joint error" not in figures
    assert check(installed, Events(lambda *_: None, notes.append), CLIPS) == []


def test_a_precision_that_hears_otherwise_is_refused(
    tmp_path: Path, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deaf(toy_family.ToyProbe):
        def decode(self, frames: Samples, valid: int) -> Decoded:
            return Decoded()

    def probe(_: toy_family.Toy, folder: ModelFolder, precision: str) -> toy_family.ToyProbe:
        return (Deaf if precision == "fp16" else toy_family.ToyProbe)(folder, precision)

    monkeypatch.setattr(toy_family.Toy, "probe", probe)
    folder = set_up_toy(tmp_path, notes)
    entry = Manifest.read(folder).precisions["fp16"]
    assert not entry["proven"]
    assert "empty on 9 clips where FP32 is not" in entry["why"]
    assert not (folder / "listener.fp16.onnx").exists()


def test_the_faster_precision_is_chosen(installed: Path) -> None:
    choice = choose("auto", Known.of(inspect(installed), "cpu"))
    assert choice.precision == "fp16"
    assert "measured faster" in choice.reason


def test_a_file_is_transcribed(
    installed: Path, samples_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["transcribe", "-m", str(installed), "-f", "json"]
    assert main([*arguments, str(samples_dir / "weather.flac")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["text"].split()) == {"hum"}
    assert said["precision"] == "fp16"


def test_what_is_spoken_is_recognised_live(installed: Path, speech: Samples) -> None:
    transcriber = load_model(installed)
    heard = np.concatenate([speech, np.zeros(32_000, np.float32)])
    blocks = iter(np.split(heard, range(1_600, len(heard), 1_600)))
    with live(blocks, transcriber, 16_000) as going:
        finals = [event for event in going if isinstance(event, Final) and event.text]
    assert finals
    assert {word for final in finals for word in final.text.split()} == {"hum"}


def test_what_it_needs_is_missed(installed: Path) -> None:
    (installed / "words.txt").unlink()
    with pytest.raises(ModelError, match=r"words\.txt is missing"):
        inspect(installed)
