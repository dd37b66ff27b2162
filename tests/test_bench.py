"""`stt bench` end to end on a model of a few kB, and the parts of it that only compute."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from stt import bench
from stt.bench import Plan, Result, Run
from stt.bench import contenders as module
from stt.bench.contenders import Contender, contenders
from stt.cli.bench import sentence, table
from stt.errors import ModelError, UsageError
from stt.install.installation import Events
from stt.install.observation import Clip
from stt.models import inspect
from stt.settings.places import Places
from stt.system import packages
from support import tiny_nemo

Samples = npt.NDArray[np.float32]
KIND = "nemo-conformer-rnnt"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_nemo.build(tmp_path_factory.mktemp("models") / "tiny", KIND)


def checked(stage: str, done: int, total: int) -> None:
    assert stage
    assert 0 <= done <= total


def positive(seconds: float) -> None:
    assert seconds >= 0


SILENT = Events(checked, lambda line: None, positive)


def run(**changes: object) -> Run:
    figures: dict[str, object] = {
        "engine": "stt",
        "model": "parakeet",
        "precision": "fp32",
        "provider": "cpu",
        "batch": 4,
        "threads": 0,
        "recordings": 4,
        "audio_s": 112.0,
        "rtfx": 20.0,
        "rtfx_min": 19.0,
        "rtfx_max": 21.0,
        "ratio": 1.25,
        "cpu_ms_per_s": 90.0,
        "load_s": 2.5,
        "first_result_s": 4.0,
        "peak_mib": 2700.0,
    }
    return Run(**(figures | changes))  # type: ignore[arg-type]


class Fake:
    """A contender's process that does nothing; onnx-asr takes twice as long."""

    load_s, one_s, first_result_s, provider = 0.5, 0.1, 1.0, "cpu"

    def __init__(self, contender: Contender) -> None:
        self.contender = contender

    def ask(self, files: Sequence[Path], batch: int) -> dict[str, object]:
        seconds = 0.1 * (1 + (self.contender.engine == "onnx-asr"))
        return {"seconds": seconds / batch, "cpu": 0.2, "peak_mib": 100.0}


@pytest.fixture
def recordings(speech: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four seconds, measured in pieces of two."""
    import soundfile

    monkeypatch.setattr(bench, "FILE_S", 2.0)
    monkeypatch.setattr(bench, "_ROUNDS", 1)
    soundfile.write(tmp_path / "speech.flac", speech[: 4 * 16_000], 16_000)
    return tmp_path


def test_every_engine_precision_and_batch_has_a_row(
    model: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "started", lambda contender, *_: nullcontext(Fake(contender)))
    found = (Contender("stt", model, "fp32"), Contender("onnx-asr", model, "fp32"))
    result = bench.bench(Plan(found, (1, 2), (1, 2), "cpu", recordings), SILENT)
    assert [(row.threads, row.engine, row.batch) for row in result.runs] == [
        (threads, engine, batch)
        for threads in (1, 2)
        for engine in ("stt", "onnx-asr")
        for batch in (1, 2)
    ]
    assert [row.ratio for row in result.runs] == [2.0, 4.0, 1.0, 2.0] * 2
    assert [row.rtfx for row in result.runs[:4]] == [40.0, 80.0, 20.0, 40.0]


def test_engines_are_measured_in_processes_of_their_own(model: Path, recordings: Path) -> None:
    found = contenders(inspect(model), ["onnx-asr"], "cpu", Places.only(model.parent))
    assert found == (Contender("stt", model, "fp32"), Contender("onnx-asr", model, "fp32"))
    result = asdict(bench.bench(Plan(found, (1,), (1,), "cpu", recordings), SILENT))
    for row in result["runs"]:
        assert row["audio_s"] == 4.0
        assert row["recordings"] == 2
        assert row["cpu_ms_per_s"] > 0
        assert row["rtfx_min"] <= row["rtfx"] <= row["rtfx_max"]
        assert row["first_result_s"] >= row["load_s"] > 0
        assert row["ratio"] > 0
    assert result["runs"][1]["ratio"] == 1
    assert result["reference"] == "onnx-asr tiny fp32, batch 1"
    assert result["machine"]["cores"] >= 1


def test_a_contender_that_cannot_run_is_an_error_with_its_reason(model: Path) -> None:
    plan = Plan((Contender("stt", model, "int8"),), (1,), (1,), "cpu")
    with pytest.raises(
        ModelError, match=r"stt tiny int8 did not run: (?!stt\.errors).*no int8 files"
    ):
        bench.bench(plan, SILENT)


def test_engines_are_checked_before_anything_runs(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="'kaldi' is not known; use onnx-asr or sherpa-onnx"):
        contenders(inspect(model), ["kaldi"], "cpu", Places.only(model.parent))
    monkeypatch.setattr(
        packages, "find_spec", lambda name: None if name == "sherpa_onnx" else find_spec(name)
    )
    with pytest.raises(UsageError, match="pip install sherpa-onnx"):
        contenders(inspect(model), ["sherpa-onnx"], "cpu", Places.only(model.parent))


def test_another_folder_for_another_engine(model: Path, tmp_path: Path) -> None:
    other = tiny_nemo.build(tmp_path / "published", KIND)
    found = contenders(inspect(model), [f"onnx-asr={other}"], "cpu", Places.only(model.parent))
    assert [str(one) for one in found] == ["stt tiny fp32", "onnx-asr published fp32"]
    installed = contenders(inspect(model), ["onnx-asr=published"], "cpu", Places.only(tmp_path))
    assert installed == found


def test_ratios_are_beside_fp32(model: Path) -> None:
    theirs = [Contender("onnx-asr", model, precision) for precision in ("fp16", "fp32")]
    ours = Contender("stt", model, "fp32")
    assert bench._reference([ours, *theirs]) == theirs[1]
    assert bench._reference([ours, theirs[0]]) == theirs[0]
    assert bench._reference([ours]) is None


def test_a_folder_is_no_recording(model: Path, tmp_path: Path) -> None:
    (tmp_path / "takes.wav").mkdir()
    plan = Plan((Contender("stt", model, "fp32"),), (1,), (1,), "cpu", tmp_path)
    with pytest.raises(UsageError, match="no recordings in it"):
        bench.bench(plan, SILENT)


@pytest.mark.parametrize(
    ("one_s", "batch", "count", "seconds"),
    [
        (1.0, 1, 16, 28.0),
        (11.0, 1, 16, 28.0),
        (30.0, 1, 6, 28.0),
        (90.0, 1, 4, 14.0),
        (1.0, 64, 64, 28.0),
        (30.0, 64, 64, 4.0),
        (9000.0, 1, 4, 4.0),
    ],
)
def test_a_slow_model_gets_fewer_recordings_or_shorter_ones(
    monkeypatch: pytest.MonkeyPatch, one_s: float, batch: int, count: int, seconds: float
) -> None:
    clips = (Clip("a", np.zeros(16_000, np.float32), "a"),)
    monkeypatch.setattr(bench, "bundled_clips", lambda: clips)
    notes: list[str] = []
    pieces = bench._fitting(one_s, batch, notes.append)
    assert [len(piece) / 16_000 for piece in pieces] == [seconds] * count
    assert notes[-1].startswith("3 rounds take about ")
    whole = (max(batch, 16), 28.0) == (count, seconds)
    assert len(notes) == (1 if whole else 2)
    if not whole:
        assert notes[0].endswith(f": {count} of {seconds:.0f} s are measured")


def test_sherpa_onnx_takes_a_folder_in_its_own_layout(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "require", lambda module, purpose: None)
    places = Places.only(model.parent)
    with pytest.raises(UsageError, match="not in sherpa-onnx's layout; give --against"):
        contenders(inspect(model), ["sherpa-onnx"], "cpu", places)
    for name in ("encoder", "decoder", "joiner"):
        (tmp_path / f"{name}.int8.onnx").touch()
    (tmp_path / "tokens.txt").touch()
    found = contenders(inspect(model), [f"sherpa-onnx={tmp_path}"], "cpu", places)
    assert found[1:] == (Contender("sherpa-onnx", tmp_path.resolve(), "int8"),)


def test_the_table_shows_what_is_known() -> None:
    sherpa = run(engine="sherpa-onnx", ratio=None, peak_mib=None)
    text = table(
        Result({"cpu": "a processor", "cores": 2}, "onnx-asr fp32, batch 1", (run(), sherpa))
    )
    lines = text.splitlines()
    assert lines[0].startswith("An hour of audio takes 3.0 minutes here (")
    assert "cpu a processor, cores 2" in lines
    assert "4 recordings a round, 112 s of audio" in text
    assert "beside onnx-asr fp32, batch 1" in " ".join(text.split())
    assert "1  stt " in text
    assert "2  sherpa-onnx " in text
    row = next(line for line in lines if line.startswith("1 ") and "20.0" in line)
    assert row.split()[1:7] == ["20.0", "19.0", "-", "21.0", "1.25", "90.0"]


def test_the_table_fits_a_screen() -> None:
    machine = {"cpu": "Some Processor With A Long Name @ 2.40GHz", "system": "Linux " * 9}
    runs = [
        run(engine=engine, model="a-model-of-24-characters", batch=batch, threads=threads)
        for engine in ("stt", "onnx-asr", "sherpa-onnx")
        for batch in (1, 128)
        for threads in (1, 1024)
    ]
    reference = "onnx-asr a-model-of-24-characters fp32, batch 1"
    for shown in (runs, [run(precision=p) for p in ("fp16", "fp32", "int8")]):
        text = table(Result(machine, reference, tuple(shown)))
        assert max(map(len, text.splitlines())) <= 80
    assert "fp16  " in text, "where precisions are enough there are no numbers"


@pytest.mark.parametrize(
    ("rtfx", "message"), [(1333.0, "3 seconds"), (22.2, "2.7 minutes"), (0.5, "2.0 hours")]
)
def test_one_sentence_says_how_long_an_hour_takes(rtfx: float, message: str) -> None:
    result = Result({}, None, (run(rtfx=rtfx), run(engine="onnx-asr", rtfx=5000.0)))
    assert sentence(result).startswith(f"An hour of audio takes {message} here")


def test_the_command_prints_one_json_object(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from stt.cli import main

    plans = []

    def measured(plan: Plan, events: Events) -> Result:
        plans.append(plan)
        return Result({"cores": 2}, None, (run(),))

    monkeypatch.setattr(bench, "bench", measured)
    arguments = ["bench", "-m", str(model), "--batch", "4,1,4", "--threads", "2,0", "--json", "-q"]
    assert main(arguments) == 0
    message = json.loads(capsys.readouterr().out)
    assert message["runs"][0]["cpu_ms_per_s"] == 90.0
    assert plans == [Plan((Contender("stt", model, "fp32"),), (1, 4), (0, 2), "cpu", None)]
    assert main(["bench", "-m", str(model), "--batch", "0"]) == 2
    assert "whole numbers" in capsys.readouterr().err
