"""Plain transducers and CTC through the real loader: the same tokens as onnx-asr's own decoding."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stt import models
from stt.engine.sessions import Runtime
from stt.errors import ModelError, NonFiniteOutput
from stt.models import inspect
from stt.models.ctc import CtcRecognizer
from stt.models.nemo import TokenRecognizer
from stt.models.onnx_asr_edge import load_ctc, load_tdt
from stt.models.tdt import LONGEST
from stt.models.transducer import TdtRecognizer
from stt.types import SAMPLE_RATE, Samples
from support import tiny_nemo, tiny_tdt
from support.paths import DIGITS

KINDS = ("nemo-conformer-rnnt", "nemo-conformer-ctc")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: tiny_nemo.build(root / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def recognizers(folders: dict[str, Path]) -> dict[str, tuple[TokenRecognizer, object]]:
    rnnt = load_tdt(inspect(folders[KINDS[0]]), "fp32", Runtime("cpu", 1), ())
    ctc = load_ctc(inspect(folders[KINDS[1]]), "fp32", Runtime("cpu", 1))
    return {KINDS[0]: (TdtRecognizer(rnnt), rnnt.asr), KINDS[1]: (CtcRecognizer(ctc), ctc.asr)}


def noise(seed: int, seconds: float) -> Samples:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.1, int(SAMPLE_RATE * seconds)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), seconds=st.floats(0.05, 4))
def test_the_same_tokens_and_frames_as_onnx_asr(
    recognizers: dict[str, tuple[TokenRecognizer, object]], kind: str, seed: int, seconds: float
) -> None:
    recognizer, asr = recognizers[kind]
    samples = noise(seed, seconds)
    features = asr._preprocessor(samples[None], np.array([len(samples)]))  # type: ignore[attr-defined]
    frames, lengths = asr._encode(*features)  # type: ignore[attr-defined]
    lengths = np.minimum(lengths, frames.shape[1])
    tokens, at, _ = next(iter(asr._decoding(frames, lengths)))  # type: ignore[attr-defined]
    (ours,) = recognizer.decode([samples])
    assert [e.id for e in ours] == list(tokens)
    assert [e.frame for e in ours] == list(at)
    assert all(e.logprob <= 0 for e in ours)
    ends = [e.frame + e.duration for e in ours]
    assert all(end <= after.frame for end, after in zip(ends, ours[1:], strict=False))
    assert not ends or ends[-1] <= lengths[0]


def test_noise_gives_tokens_to_compare(
    recognizers: dict[str, tuple[TokenRecognizer, object]],
) -> None:
    for recognizer, _ in recognizers.values():
        (found,) = recognizer.decode([noise(1, 8)])
        assert len({e.id for e in found}) == 3
        assert max(e.duration for e in found) > 1
    # a plain transducer's last until the next, but not long
    (found,) = recognizers[KINDS[0]][0].decode([noise(2, 8)])
    assert {e.duration for e in found} <= set(range(LONGEST + 1))


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_transcribes_with_them(
    folders: dict[str, Path],
    kind: str,
    samples_dir: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from stt.cli import main

    assert main(["transcribe", "-m", str(folders[kind]), str(samples_dir / "weather.flac")]) == 0
    captured = capsys.readouterr()
    assert set(captured.out) <= set("badul \n")
    assert captured.out.strip()
    assert "precision fp32" in captured.err


@pytest.mark.parametrize("kind", [*KINDS, "nemo-conformer-tdt"])
def test_words_lie_inside_their_utterance_and_rise(
    folders: dict[str, Path], kind: str, speech: Samples
) -> None:
    recognizer, _ = models.load(inspect(folders.get(kind, DIGITS)))
    (segments,) = recognizer.recognize([speech])
    times = [time for s in segments for word in s.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert all(0 <= time <= len(speech) / SAMPLE_RATE for time in times)


@pytest.mark.parametrize(
    ("valid", "kept"), [(-3, 0), (0, 0), (2, 2), (99, 13)], ids=["negative", "none", "some", "many"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_lengths_are_clamped_to_the_frames_there_are(
    folders: dict[str, Path], kind: str, valid: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, runtime = inspect(folders[kind]), Runtime("cpu", 1)
    model = (
        load_tdt(folder, "fp32", runtime, ())
        if kind == KINDS[0]
        else load_ctc(folder, "fp32", runtime)
    )
    encode = model.asr._encode
    monkeypatch.setattr(model.asr, "_encode", lambda *f: (encode(*f)[0], np.array([valid])))
    assert len(model.encode(noise(0, 1))) == kept


def test_nan_in_the_encoder_output_is_an_error_that_says_which_utterance(tmp_path: Path) -> None:
    folder = tiny_tdt.build(tmp_path / "tiny")
    tiny_tdt.add_collapsing(folder)
    recognizer = TdtRecognizer(load_tdt(inspect(folder), "fp16", Runtime("cpu", 1)))
    with pytest.raises(NonFiniteOutput, match=r"^NaN in the encoder output: .*stt setup") as caught:
        recognizer.recognize([noise(0, 1), noise(1, 1)])
    assert caught.value.index == 0


def test_infinite_logits_are_an_error(folders: dict[str, Path]) -> None:
    model = load_tdt(inspect(folders[KINDS[0]]), "fp32", Runtime("cpu", 1), ())
    with pytest.raises(NonFiniteOutput, match="infinity in the logits"):
        model.step(3, model.initial_state(), np.array([0, 0, -np.inf, 0], np.float32))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ("▁ba 0\n<blk> 1\n", "vocab.txt has 2 tokens, but the model has 4 outputs"),
        ("▁ba 0\n▁du 1\nla 2\nli 3\n<blk> 4\n", "vocab.txt has 5 tokens, but the model has 4"),
        ("▁ba 0\n▁du 1\nla 2\nli 3\n", "vocab.txt has no <blk> line"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused(
    tmp_path: Path, kind: str, vocabulary: str, message: str
) -> None:
    folder = tiny_nemo.build(tmp_path / "tiny", kind)
    (folder / "vocab.txt").write_text(vocabulary, "utf-8")
    with pytest.raises(ModelError, match=re.escape(message)):
        models.load(inspect(folder))


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_may_name_more_than_the_model_says(tmp_path: Path, kind: str) -> None:
    folder = tiny_nemo.build(tmp_path / "tiny", kind)
    with (folder / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("<more> 4\n")
    recognizer, _ = models.load(inspect(folder))
    assert recognizer.recognize([noise(1, 4)]) != [[]]


@pytest.mark.parametrize(
    ("kind", "graph", "old", "new", "message"),
    [
        (KINDS[0], "encoder-model", "encoded_lengths", "lengths", "named encoded_lengths"),
        (KINDS[0], "decoder_joint-model", "input_states_2", "cell", "named input_states_2"),
        (KINDS[1], "model", "logprobs", "logits", "named logprobs"),
    ],
)
def test_a_graph_of_another_layout_is_refused(
    tmp_path: Path, kind: str, graph: str, old: str, new: str, message: str
) -> None:
    folder = tiny_nemo.build(tmp_path / "tiny", kind)
    path = folder / f"{graph}.onnx"
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.name = new if value.name == old else value.name
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = new if name == old else name
    onnx.save(model, path)
    with pytest.raises(ModelError, match=message):
        models.load(inspect(folder))


def test_a_graph_with_float16_at_its_edges_is_refused(tmp_path: Path) -> None:
    folder = tiny_nemo.build(tmp_path / "tiny", KINDS[1])
    graph = """
        <ir_version: 8, opset_import: ["" : 17]>
        ctc (float[B, 80, T] audio_signal, int64[B] length) => (float16[B, T, 80] logprobs)
        { half = Cast <to = 10> (audio_signal) logprobs = Transpose <perm = [0, 2, 1]> (half) }
    """
    onnx.save(onnx.parser.parse_model(graph), folder / "model.onnx")
    with pytest.raises(ModelError, match="logprobs is float16"):
        models.load(inspect(folder))
