from __future__ import annotations

import json
from collections.abc import Callable
from math import erf
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from stt.convert.ctranslate2 import read_ctranslate2, whisper_size
from stt.convert.whisper import export_whisper
from stt.errors import ModelError
from support import graphs

Weights = dict[str, npt.NDArray[np.generic]]
Array = npt.NDArray[np.float64]

HEADS = 2


class NumpyWhisper:
    """Whisper as the paper describes it, in float64, one utterance, no cache."""

    def __init__(self, weights: Weights) -> None:
        self.weights = {name: values.astype(np.float64) for name, values in weights.items()}

    def linear(self, x: Array, name: str) -> Array:
        return x @ self.weights[f"{name}/weight"].T + self.weights[f"{name}/bias"]

    def norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * self.weights[f"{name}/gamma"] + self.weights[f"{name}/beta"]

    def attend(self, query: Array, key: Array, value: Array, causal: bool) -> Array:
        mixed = []
        for q, k, v in zip(*(np.split(x, HEADS, -1) for x in (query, key, value)), strict=True):
            scores = q @ k.T / np.sqrt(q.shape[1])
            if causal:
                scores[np.triu_indices(len(q), 1)] = -np.inf
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            mixed.append(scores / scores.sum(-1, keepdims=True) @ v)
        return np.concatenate(mixed, -1)

    def layer(self, x: Array, scope: str, source: Array | None) -> Array:
        own = f"{scope}/self_attention"
        parts = np.split(self.linear(self.norm(x, f"{own}/layer_norm"), f"{own}/linear_0"), 3, -1)
        mixed = self.attend(*parts, causal=source is not None)
        x = x + self.linear(mixed, f"{own}/linear_1")
        if source is not None:
            cross = f"{scope}/attention"
            query = self.linear(self.norm(x, f"{cross}/layer_norm"), f"{cross}/linear_0")
            key, value = np.split(self.linear(source, f"{cross}/linear_1"), 2, -1)
            mixed = self.attend(query, key, value, causal=False)
            x = x + self.linear(mixed, f"{cross}/linear_2")
        inner = self.linear(self.norm(x, f"{scope}/ffn/layer_norm"), f"{scope}/ffn/linear_0")
        return x + self.linear(gelu(inner), f"{scope}/ffn/linear_1")

    def encode(self, features: Array) -> Array:
        x = features
        for name, stride in (("conv1", 1), ("conv2", 2)):
            weight, bias = (self.weights[f"encoder/{name}/{part}"] for part in ("weight", "bias"))
            padded = np.pad(x, ((0, 0), (1, 1)))
            frames = [
                np.tensordot(weight, padded[:, t : t + 3], 2) + bias
                for t in range(0, x.shape[1], stride)
            ]
            x = gelu(np.stack(frames, 1))
        x = x.T + self.weights["encoder/position_encodings/encodings"]
        for i in range(2):
            x = self.layer(x, f"encoder/layer_{i}", None)
        return self.norm(x, "encoder/layer_norm")

    def logits(self, tokens: list[int], source: Array) -> Array:
        """Of the last position."""
        table = self.weights["decoder/embeddings/weight"]
        x = table[tokens] + self.weights["decoder/position_encodings/encodings"][: len(tokens)]
        for i in range(3):
            x = self.layer(x, f"decoder/layer_{i}", source)
        return self.norm(x, "decoder/layer_norm")[-1] @ table.T


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + np.vectorize(erf)(x / np.sqrt(2)))


@pytest.fixture
def exported(tiny_whisper: tuple[Path, Weights], tmp_path: Path) -> tuple[Path, NumpyWhisper]:
    source, weights = tiny_whisper
    target = tmp_path / "target"
    target.mkdir()
    seen: list[tuple[str, int, int]] = []
    export_whisper(source, target, progress=lambda *event: seen.append(event))
    assert seen == [("converting Whisper", i, 5) for i in range(6)]
    return target, NumpyWhisper(weights)


def test_graphs_compute_what_numpy_does(exported: tuple[Path, NumpyWhisper]) -> None:
    folder, reference = exported
    rng = np.random.default_rng(1)
    features = rng.standard_normal((3, 8, 24)).astype(np.float32)
    (hidden,) = graphs.session(folder / "encoder_model.onnx").run(
        None, {"input_features": features}
    )
    expected = [reference.encode(one.astype(np.float64)) for one in features]
    np.testing.assert_allclose(hidden, expected, atol=2e-4)

    decoder = graphs.session(folder / "decoder_model_merged.onnx")
    names = [x.name for x in decoder.get_inputs() if x.name.startswith("past")]
    cache = {name: np.zeros((0, 2, 0, 8), np.float32) for name in names}
    tokens: list[list[int]] = [[], [], []]
    fixed: dict[str, npt.NDArray[np.float32]] = {}
    for step, fresh in enumerate(
        ([[5, 6], [7, 8], [9, 5]], [[1], [2], [3]], [[4, 9], [8, 8], [0, 7]])
    ):
        tokens = [have + new for have, new in zip(tokens, fresh, strict=True)]
        feeds = {"input_ids": np.array(fresh), "use_cache_branch": np.array([step > 0])}
        logits, *caches = decoder.run(None, feeds | cache | {"encoder_hidden_states": hidden})
        assert logits.shape == (3, 1, len(reference.weights["decoder/embeddings/weight"]))
        wanted = [reference.logits(t, x) for t, x in zip(tokens, expected, strict=True)]
        np.testing.assert_allclose(logits[:, 0], wanted, atol=1e-3)
        outputs = [x.name.replace("present", "past_key_values") for x in decoder.get_outputs()[1:]]
        new = dict(zip(outputs, caches, strict=True))
        if step == 0:
            fixed = {name: value for name, value in new.items() if "encoder" in name}
            assert {value.shape for value in fixed.values()} == {(3, 2, 12, 8)}
        else:  # the encoder's part of the cache is not handed out again
            assert {new[name].shape[0] for name in fixed} == {0}
        cache = new | fixed


def test_onnx_asr_reads_the_folder(exported: tuple[Path, NumpyWhisper]) -> None:
    from onnx_asr.models.whisper import WhisperHf

    folder, _ = exported
    files = {
        key: folder / name.replace("**/", "") for key, name in WhisperHf._get_model_files().items()
    }

    def preprocess(waveforms: object, lengths: object) -> tuple[object, object]:
        return np.random.default_rng(2).standard_normal((2, 8, 24)).astype(np.float32), lengths

    options = {"providers": ["CPUExecutionProvider"]}
    model = WhisperHf(files | {"config": folder / "config.json"}, lambda name: preprocess, options)
    assert model._preprocessor_name == "whisper8"
    encoding = model._encode(np.zeros((2, 1)), np.zeros(2))
    tokens = model._decoding(encoding, np.repeat(model._transcribe_input, 2, axis=0), 12)
    assert tokens.shape == (2, 12)


def test_tokenizer_and_config(exported: tuple[Path, NumpyWhisper]) -> None:
    folder, reference = exported
    vocabulary = json.loads((folder / "vocab.json").read_text("utf-8"))
    added = json.loads((folder / "added_tokens.json").read_text("utf-8"))
    config = json.loads((folder / "config.json").read_text("utf-8"))
    size = len(reference.weights["decoder/embeddings/weight"])
    assert sorted([*vocabulary.values(), *added.values()]) == list(range(size))
    assert config["is_multilingual"] is (size == 51865)
    assert config["model_type"] == "whisper"
    assert (config["suppress_tokens"], config["begin_suppress_tokens"]) == ([1], [2])


def test_size_comes_from_the_shapes(tiny_whisper: tuple[Path, Weights]) -> None:
    size = whisper_size(read_ctranslate2(tiny_whisper[0] / "model.bin"))
    assert (size.mels, size.width, size.heads, size.source_positions) == (8, 16, 2, 12)
    assert (size.encoder_layers, size.decoder_layers, size.target_positions) == (2, 3, 32)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("decoder/activation", 0, "activation is not 3"),
        ("decoder/pre_norm", 0, "pre_norm is not 1"),
        ("encoder/num_heads", 3, "3 heads do not fit"),
    ],
)
def test_other_architectures_are_refused(
    tmp_path: Path,
    tiny_whisper: tuple[Path, Weights],
    write_model: Callable[..., bytes],
    name: str,
    value: int,
    message: str,
) -> None:
    source, weights = tiny_whisper
    changed = weights | {name: np.array(value, weights[name].dtype)}
    (source / "model.bin").write_bytes(write_model(changed, {}))
    with pytest.raises(ModelError, match=message):
        export_whisper(source, tmp_path)
    (source / "model.bin").write_bytes(write_model(changed, {}, spec="TransformerSpec"))
    with pytest.raises(ModelError, match="not a Whisper model"):
        export_whisper(source, tmp_path)


def test_a_vocabulary_of_another_model_is_refused(
    tmp_path: Path, tiny_whisper: tuple[Path, Weights]
) -> None:
    source, _ = tiny_whisper
    path = source / "vocabulary.txt"
    path.write_text(path.read_text("utf-8").replace("w7\n", ""), "utf-8")
    with pytest.raises(ModelError, match="vocabulary"):
        export_whisper(source, tmp_path)
