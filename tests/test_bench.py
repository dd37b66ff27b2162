"""`stt bench` end to end on a model of a few kB, and the parts of it that only compute."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from stt import bench, bench_audio
from stt.bench import Contender, Plan, Result, Run, contenders
from stt.bench_worker import Clock
from stt.cli.bench import sentence, table
from stt.errors import ModelError, UsageError
from stt.models import inspect
from stt.settings.places import Places
from support import tiny_nemo

Samples = npt.NDArray[np.float32]
KIND = "nemo-conformer-rnnt"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_nemo.build(tmp_path_factory.mktemp("models") / "tiny", KIND)


def silent(stage: str, done: int, total: int) -> None:
    assert stage
    assert 0 <= done <= total


def run(**changes: object) -> Run:
    figures: dict[str, object] = {
        "engine": "stt",
        "model": "parakeet",
        "precision": "fp32",
        "provider": "cpu",
        "batch": 4,
        "threads": 0,
        "audio_s": 112.0,
        "rtfx": 20.0,
        "rtfx_min": 19.0,
        "rtfx_max": 21.0,
        "ratio": 1.25,
        "ms_per_s": {"features": 0.25, "encoder": 40.0, "decoding": 6.0, "other": 1.0},
        "cpu_ms_per_s": 90.0,
        "load_s": 2.5,
        "first_result_s": 4.0,
        "peak_mib": 2700.0,
    }
    return Run(**(figures | changes))  # type: ignore[arg-type]


def test_every_engine_precision_and_batch_has_a_row(
    model: Path, speech: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import soundfile

    monkeypatch.setattr(bench, "_ROUNDS", 1)
    monkeypatch.setattr(bench_audio, "FILE_S", 2.0)
    soundfile.write(tmp_path / "speech.flac", speech[: 4 * 16_000], 16_000)
    found = contenders(inspect(model), ["onnx-asr"], "cpu", Places.only(model.parent))
    assert found == (Contender("stt", model, "fp32"), Contender("onnx-asr", model, "fp32"))
    result = bench.bench(Plan(found, (1, 2), (1, 2), "cpu", tmp_path), silent).as_json()
    runs = result["runs"]
    assert [(row["threads"], row["engine"], row["batch"]) for row in runs] == [
        (threads, engine, batch)
        for threads in (1, 2)
        for engine in ("stt", "onnx-asr")
        for batch in (1, 2)
    ]
    for row in runs:
        assert row["audio_s"] == 4.0
        assert set(row["ms_per_s"]) == {"features", "encoder", "decoding", "other"}
        assert all(value >= 0 for value in row["ms_per_s"].values())
        assert row["ms_per_s"]["features"] > 0
        assert row["rtfx_min"] <= row["rtfx"] <= row["rtfx_max"]
        assert row["first_result_s"] >= row["load_s"] > 0
        assert row["ratio"] > 0
    assert runs[2]["ratio"] == runs[6]["ratio"] == 1
    assert result["reference"] == "onnx-asr tiny fp32, batch 1"
    assert result["machine"]["cores"] >= 1


def test_a_contender_that_cannot_run_is_an_error_with_its_reason(model: Path) -> None:
    plan = Plan((Contender("stt", model, "int8"),), (1,), (1,), "cpu")
    with pytest.raises(
        ModelError, match=r"stt tiny int8 did not run: (?!stt\.errors).*no int8 files"
    ):
        bench.bench(plan, silent)


def test_engines_are_checked_before_anything_runs(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="'kaldi' is not known; use onnx-asr or sherpa-onnx"):
        contenders(inspect(model), ["kaldi"], "cpu", Places.only(model.parent))
    monkeypatch.setattr(bench, "find_spec", lambda name: None)
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
        bench.bench(plan, silent)


def test_stages_leave_the_rest_to_other() -> None:
    clock = Clock()
    clock.add("features", 1)
    clock.add("encoder", 5)
    clock.add("whole", 8)
    expected = {"features": 1, "encoder": 5, "decoding": 2, "other": 2}
    assert clock.stages(10) == expected
    assert clock.stages(7)["other"] == 0  # stages of different utterances overlapped
    clock.add("decoding", 3)
    assert clock.stages(10)["decoding"] == 3


def test_the_time_inside_a_generator_is_counted() -> None:
    clock = Clock()
    counted = clock.timed_steps("decoding", iter)
    assert list(counted([1, 2, 3])) == [1, 2, 3]
    assert clock.seconds["decoding"] >= 0


def test_the_table_shows_what_is_known() -> None:
    sherpa = run(engine="sherpa-onnx", ms_per_s=None, ratio=None, peak_mib=None)
    text = table(
        Result({"cpu": "a processor", "cores": 2}, "onnx-asr fp32, batch 1", (run(), sherpa))
    )
    lines = text.splitlines()
    assert lines[0].startswith("An hour of audio takes 3.0 minutes here (")
    assert "cpu a processor, cores 2" in lines
    assert "112 s of audio" in text
    assert "beside onnx-asr fp32, batch 1" in text
    assert "1  stt " in text
    assert "2  sherpa-onnx " in text
    row = next(line for line in lines if line.startswith("1 ") and "20.0" in line)
    assert row.split()[1:6] == ["20.0", "19.0", "-", "21.0", "1.25"]


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
    ("rtfx", "told"), [(1333.0, "3 seconds"), (22.2, "2.7 minutes"), (0.5, "2.0 hours")]
)
def test_one_sentence_says_how_long_an_hour_takes(rtfx: float, told: str) -> None:
    result = Result({}, None, (run(rtfx=rtfx), run(engine="onnx-asr", rtfx=5000.0)))
    assert sentence(result).startswith(f"An hour of audio takes {told} here")


def test_the_command_prints_one_json_object(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from stt.cli import main

    plans = []

    def measured(plan: Plan, report: object, left: object) -> Result:
        plans.append(plan)
        return Result({"cores": 2}, None, (run(),))

    monkeypatch.setattr(bench, "bench", measured)
    arguments = ["bench", "-m", str(model), "--batch", "4,1,4", "--threads", "2,0", "--json", "-q"]
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["runs"][0]["ms_per_s"]["encoder"] == 40.0
    assert plans == [Plan((Contender("stt", model, "fp32"),), (1, 4), (0, 2), "cpu", None)]
    assert main(["bench", "-m", str(model), "--batch", "0"]) == 2
    assert "whole numbers" in capsys.readouterr().err
