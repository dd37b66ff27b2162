from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from stt.engine.manifest import Manifest
from stt.engine.recognizer import Decoded, DecoderStep
from stt.errors import ModelError
from stt.install import artifacts, measure, starter
from stt.install.catalog import STARTER_WEIGHTS
from stt.install.installation import Events
from stt.install.observation import Observation, bundled_clips
from stt.install.proof import Check, Verdict
from stt.install.starter import ensure_starter, verify_starter
from stt.models import inspect
from stt.models.whisper import transcribe
from stt.models.whisper_decoding import Rules, load_vocabulary
from stt.models.whisper_session import OrtWhisper, log_mel
from support.paths import SAMPLES
from support.place import compare


@pytest.fixture(scope="session")
def weights() -> Path:
    """The installed data package's folder."""
    try:
        return starter.installed_weights()
    except ModelError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def built(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with a starter that no test changes."""
    models = tmp_path_factory.mktemp("models")
    events: list[tuple[str, int, int]] = []
    assert (
        ensure_starter(models, progress=lambda *event: events.append(event)) == models / "starter"
    )
    stages = [stage for stage, _, _ in events]
    assert sorted(set(stages), key=stages.index) == [
        "checking the weights",
        "converting Whisper",
        "trying the model",
    ]
    assert all(0 <= done <= total for _, done, total in events)
    assert {stage for stage, done, total in events if done == total} == {
        "checking the weights",
        "converting Whisper",
        "trying the model",
    }
    return models


@pytest.fixture
def linked(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is built anew is linked to what was built, where it would be converted."""

    def export(source: Path, target: Path, *, progress: object) -> None:
        for path in (built / "starter").iterdir():
            if path.name != "manifest.json":
                os.link(path, target / path.name)

    monkeypatch.setattr(starter, "export_whisper", export)


@pytest.fixture
def models(built: Path, linked: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of links, each of which may be replaced, as by `damaged`; nothing is tried out."""
    monkeypatch.setattr(starter, "_try_out", lambda folder, progress: None)
    return shutil.copytree(built, tmp_path / "models", copy_function=os.link)


def damaged(path: Path, size: int | None = None) -> None:
    """Put a file in its place that is cut short to so many bytes, or has other bytes inside."""
    content = bytearray(path.read_bytes())
    path.unlink()
    if size is None:
        size = len(content)
        content[size // 2] ^= 1
    path.write_bytes(content[:size])


def snapshot(models: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (models / "starter").iterdir()}


def names(models: Path) -> set[str]:
    return {path.name for path in models.iterdir()}


def test_nothing_is_left_beside_it(built: Path) -> None:
    assert names(built) == {"starter"}
    assert names(built / "starter") == {
        "added_tokens.json",
        "config.json",
        "decoder_model_merged.onnx",
        "decoder_model_merged.onnx.data",
        "encoder_model.onnx",
        "encoder_model.onnx.data",
        "manifest.json",
        "vocab.json",
    }
    verify_starter(built)


def test_not_built_again(models: Path) -> None:
    before = snapshot(models)
    ensure_starter(models, source=Path("nowhere"), progress=lambda *event: pytest.fail(str(event)))
    assert snapshot(models) == before


@pytest.mark.parametrize("name", ["encoder_model.onnx.data", "manifest.json"])
def test_built_again_when_a_file_is_missing_or_short(models: Path, name: str) -> None:
    damaged(models / "starter" / name, 100)
    with pytest.raises(ModelError, match="damaged"):
        verify_starter(models)
    ensure_starter(models)
    verify_starter(models)
    assert names(models) == {"starter"}


def test_verify_sees_a_changed_byte(models: Path) -> None:
    damaged(models / "starter" / "decoder_model_merged.onnx.data")
    with pytest.raises(ModelError, match="damaged"):
        verify_starter(models)
    ensure_starter(models)  # looks at sizes only
    with pytest.raises(ModelError, match="run `stt setup starter`"):
        verify_starter(models)
    ensure_starter(models, contents=True)
    verify_starter(models)


def test_weights_that_differ_are_refused(weights: Path, tmp_path: Path) -> None:
    source = shutil.copytree(weights, tmp_path / "source")
    damaged(source / "model.bin")
    with pytest.raises(ModelError, match=f"{STARTER_WEIGHTS[1].sha256} expected"):
        ensure_starter(tmp_path / "models", source=source)
    (source / "model.bin").unlink()
    with pytest.raises(ModelError, match="no such file"):
        ensure_starter(tmp_path / "models", source=source)
    assert names(tmp_path / "models") == set()


@pytest.mark.usefixtures("linked")
def test_wrong_results_are_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter, "_SILENCE_LOGPROB", -0.5)
    with pytest.raises(ModelError, match="expected 345"):
        ensure_starter(tmp_path)
    assert names(tmp_path) == set()


def test_missing_package_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter, "_PACKAGE", "no-such-package")
    with pytest.raises(ModelError, match="pip install no-such-package"):
        ensure_starter(tmp_path)


def test_full_disk_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(starter, "export_whisper", full)
        with pytest.raises(ModelError, match="free 200 MB"):
            ensure_starter(tmp_path)
    monkeypatch.setattr(starter, "_NEEDED_BYTES", 10**18)
    with pytest.raises(ModelError, match="another folder in STT_MODELS_DIR"):
        ensure_starter(tmp_path)
    assert names(tmp_path) == set()


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("in the way")
    with pytest.raises(ModelError, match="a folder of yours in STT_MODELS_DIR"):
        ensure_starter(tmp_path / "models")


def build_in_process(models: str) -> None:
    ensure_starter(Path(models))


@pytest.mark.slow
def test_two_processes_at_once(weights: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    builders = [context.Process(target=build_in_process, args=(str(tmp_path),)) for _ in "ab"]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(120)
    assert [builder.exitcode for builder in builders] == [0, 0]
    verify_starter(tmp_path)
    assert names(tmp_path) == {"starter"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
def test_a_killed_build_leaves_no_model_and_its_debris_goes(weights: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    builder = context.Process(target=build_in_process, args=(str(tmp_path),))
    builder.start()
    deadline = time.monotonic() + 60
    while not any(tmp_path.glob(".starter-*/new/encoder_model.onnx.data")):
        assert time.monotonic() < deadline and builder.is_alive()
        time.sleep(0.001)
    assert builder.pid is not None
    os.kill(builder.pid, signal.SIGKILL)
    builder.join(60)
    assert "starter" not in names(tmp_path) and len(names(tmp_path)) == 2  # debris and the lock
    ensure_starter(tmp_path)
    assert names(tmp_path) == {"starter"}
    verify_starter(tmp_path)


@pytest.fixture(scope="session")
def clips() -> list[npt.NDArray[np.float32]]:
    soundfile, soxr = pytest.importorskip("soundfile"), pytest.importorskip("soxr")
    paths = sorted(SAMPLES.glob("*.flac"))
    if not paths:
        pytest.skip("no clips in samples/")
    sounds = [soundfile.read(path, dtype="float32", always_2d=True) for path in paths[:3]]
    return [soxr.resample(x.mean(axis=1), rate, 16000)[: 30 * 16000] for x, rate in sounds]


@pytest.fixture(scope="session")
def model(built: Path) -> OrtWhisper:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    files = [
        built / "starter" / f"{name}.onnx" for name in ("encoder_model", "decoder_model_merged")
    ]
    return OrtWhisper(*(onnxruntime.InferenceSession(f, options) for f in files))


@pytest.mark.slow
@pytest.mark.parametrize("timestamps", [False, True])
def test_same_text_as_ctranslate2(
    built: Path,
    weights: Path,
    model: OrtWhisper,
    clips: list[npt.NDArray[np.float32]],
    timestamps: bool,
) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2")
    other = ctranslate2.models.Whisper(str(weights), compute_type="float32", intra_threads=2)
    vocabulary = load_vocabulary(built / "starter")
    prompt = [vocabulary.start] if timestamps else [vocabulary.start, vocabulary.no_timestamps]
    features = ctranslate2.StorageView.from_array(np.stack([log_mel(clip) for clip in clips]))
    expected = other.generate(
        features, [prompt] * len(clips), beam_size=1, return_no_speech_prob=True
    )
    results = transcribe(clips, model.start, Rules(vocabulary, timestamps))
    for result, wanted in zip(results, expected, strict=True):
        text = vocabulary.text(wanted.sequences_ids[0]).strip()
        ours, theirs = (" ".join(x.split()) for x in (result.text, text))
        # with timestamps CTranslate2 leaves what follows the last piece to the next window
        assert ours.startswith(theirs) if timestamps else ours == theirs
        assert len(text) > 20
        assert result.no_speech_prob == pytest.approx(wanted.no_speech_prob, abs=1e-3)


@pytest.mark.slow
def test_a_batch_says_what_each_utterance_says_alone(
    built: Path, model: OrtWhisper, clips: list[npt.NDArray[np.float32]]
) -> None:
    rules = Rules(load_vocabulary(built / "starter"), timestamps=False)
    clips = [clips[0][:32000], *clips[:2], clips[0][:0]]  # of different lengths: the batch shrinks
    together = transcribe(clips, model.start, rules, batch=4)
    alone = transcribe(clips, model.start, rules, batch=1)
    assert [result.text for result in together] == [result.text for result in alone]
    for a, b in zip(together, alone, strict=True):
        assert [p.logprob for p in a.pieces] == pytest.approx(
            [p.logprob for p in b.pieces], abs=1e-3
        )


def test_a_probe_of_it_gives_the_same_again(
    built: Path, clips: list[npt.NDArray[np.float32]]
) -> None:
    folder = inspect(built / "starter")
    probe = folder.family.probe(folder, "fp32")
    frames, valid = probe.encode(clips[0][:80_000])
    probe.encode(clips[1][:80_000])
    assert np.array_equal(frames, probe.encode(clips[0][:80_000])[0])  # its memory is its own
    decoded = probe.decode(frames, valid)
    assert decoded.text.strip()
    repeated = probe.repeat(frames, decoded.steps)
    assert np.array_equal(np.stack(repeated), np.stack([step.logits for step in decoded.steps]))


def test_what_was_made_of_it_does_not_make_it_incomplete(models: Path) -> None:
    """Its own files decide: a conversion that is damaged is no reason to build it anew."""
    folder = models / "starter"
    manifest = Manifest.read(folder)
    for name in ("encoder_model.int8.onnx", "decoder_model_merged.fp16.onnx"):
        manifest.files[name] = {"size": 5, "sha256": "0", "made_from": {"maker": 1}}
    manifest.files["decoder_model_merged.fp16.onnx.data"] = {"size": 5, "sha256": "0"}
    manifest.save(folder)
    verify_starter(models)
    (folder / "vocab.json").unlink()
    (folder / "vocab.json").write_text("{}")
    with pytest.raises(ModelError, match="missing or damaged"):
        verify_starter(models)


def test_the_manifest_of_an_older_version_is_read(models: Path) -> None:
    """It had a manifest and a lock of its own; nothing is built again, nothing noted is lost."""
    path = models / "starter" / "manifest.json"
    new = json.loads(path.read_text())
    kept = ("source", "made_from", "tools", "files")
    rows = [{"precision": "fp32", "provider": "cpu", "rtfx": 9.0, "correct": True}]
    old = {"model": "OpenAI Whisper tiny.en, MIT", **{key: new[key] for key in kept}}
    old |= {"precisions": {"fp16": {"proven": True, "why": "x"}}, "measurements": rows}
    path.unlink()
    path.write_text(json.dumps(old, indent=1) + "\n")
    (models / ".starter-lock").touch()
    before = snapshot(models)
    ensure_starter(models, source=Path("nowhere"), progress=lambda *event: pytest.fail(str(event)))
    assert snapshot(models) == before
    verify_starter(models)
    manifest = Manifest.read(models / "starter")
    assert manifest.precisions == old["precisions"]
    assert manifest.measurements == rows
    before = (models / "starter").stat().st_ino
    ensure_starter(models, again=True)
    assert (models / "starter").stat().st_ino != before
    assert names(models) == {"starter"}
    verify_starter(models)


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "providers_here", lambda: ["cpu"])
    monkeypatch.setattr(measure, "compare", compare)


@pytest.mark.slow
@pytest.mark.usefixtures("unmeasured")
def test_its_fp16_is_made_proven_and_proven_again(models: Path) -> None:
    events = Events(lambda *_: None, lambda _: None)
    clips = bundled_clips()[:1]
    assert starter.add(models / "starter", ("fp16",), events, clips=clips)
    assert starter.check(models / "starter", events, clips) == []


@pytest.mark.usefixtures("unmeasured")
def test_its_precisions_live_as_those_of_any_model(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made, noted, proven and measured once; what fails loses its files and is not tried again."""
    notes: list[str] = []
    events = Events(lambda *_: None, notes.append)
    clips = bundled_clips()[:1]
    verdicts = {passed: Verdict((Check("any", passed, "said"),)) for passed in (True, False)}

    def made(*, source: Path, target: Path, **_: object) -> dict[str, object]:
        shutil.copy(source, target)
        return {"tally": {}}

    monkeypatch.setattr(artifacts, "made", made)
    monkeypatch.setattr(starter._StarterProver, "precision", lambda *_: verdicts[True])
    folder = models / "starter"
    assert starter.add(folder, ("fp16",), events, clips=clips)
    manifest = Manifest.read(folder)
    entry = manifest.files["encoder_model.fp16.onnx"]
    assert entry["tally"] == {}
    assert manifest.precisions["fp16"]["proven"]
    assert entry["made_from"] in manifest.precisions["fp16"]["made_from"]
    assert {row["precision"] for row in manifest.measurements} == {"fp32", "fp16"}
    assert starter.check(folder, events, clips) == []
    before = snapshot(models)
    notes.clear()
    assert starter.add(folder, ("fp16",), events, clips=clips)
    assert notes == []
    changed = {name for name, time in snapshot(models).items() if time != before[name]}
    assert changed <= {"manifest.json"}
    verify_starter(models)
    monkeypatch.setattr(starter._StarterProver, "precision", lambda *_: verdicts[False])
    assert not starter.add(folder, ("fp16",), events, force=True, clips=clips)
    assert "fp16: failed its proof (said); FP32 is used" in notes
    assert not list(folder.glob("*.fp16.onnx*"))
    notes.clear()
    assert not starter.add(folder, ("fp16",), events, clips=clips)
    assert notes == ["fp16: failed its proof before; `--force` makes and proves it again"]
    verify_starter(models)


# --- what a precision must give beside FP32 -------------------------------------------------------


@dataclass(frozen=True)
class Heard:
    """What one precision made of one clip: encoder's output, logits at each step, tokens."""

    hidden: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]
    tokens: tuple[int, ...]


def observation(clips: Sequence[Heard]) -> Observation:
    decoded = [
        Decoded(one.tokens, "", tuple(DecoderStep(None, row) for row in one.logits))
        for one in clips
    ]
    return Observation({}, tuple(decoded), tuple(one.hidden for one in clips))


RANDOM = np.random.default_rng(3)
FP32 = [
    Heard(
        RANDOM.normal(size=(30, 8)).astype(np.float32),
        RANDOM.normal(size=(5, 50)).astype(np.float32),
        tuple(range(20 * number, 20 * number + 20)),
    )
    for number in range(5)
]


def judged(precision: str, *other: Heard) -> dict[str, Check]:
    return {
        check.name: check
        for check in starter.judged(precision, observation(FP32), observation(other))
    }


def failed(precision: str, *other: Heard) -> set[str]:
    return {name for name, check in judged(precision, *other).items() if not check.passed}


def test_the_same_is_proven() -> None:
    assert failed("fp16", *FP32) == set()
    assert failed("int8", *FP32) == set()


@pytest.mark.parametrize(("precision", "error"), [("fp16", 0.03), ("int8", 0.4)])
def test_an_output_too_far_off_fails(precision: str, error: float) -> None:
    off = [replace(one, hidden=one.hidden * (1 + error)) for one in FP32]
    assert failed(precision, *off) == {"encoder error"}
    off = [replace(one, logits=one.logits * (1 + error)) for one in FP32]
    assert failed(precision, *off) == {"joint error"}


def test_one_clip_far_off_fails_though_the_others_are_right() -> None:
    assert failed("fp16", *FP32[:4], replace(FP32[4], hidden=FP32[4].hidden * 1.5)) == {
        "encoder error"
    }


def test_nan_fails() -> None:
    wrong = replace(FP32[0], logits=np.full_like(FP32[0].logits, np.nan))
    checks = judged("int8", wrong, *FP32[1:])
    assert not checks["joint error"].passed
    assert checks["joint error"].figure == float("inf")


def test_other_words_fail_and_int8_may_lose_some() -> None:
    one_wrong = [replace(FP32[0], tokens=(*FP32[0].tokens[:-1], 999)), *FP32[1:]]
    assert failed("fp16", *one_wrong) == {"tokens"}
    assert failed("int8", *one_wrong) == set()
    many = [replace(one, tokens=(*one.tokens[:-4], 7, 8, 9, 10)) for one in FP32]
    assert failed("int8", *many) == {"tokens"}


def test_silence_where_fp32_has_words_fails() -> None:
    checks = judged("fp16", replace(FP32[0], tokens=()), *FP32[1:])
    assert checks["never empty"].message == "empty on 1 clips where FP32 is not"
    assert not checks["never empty"].passed
