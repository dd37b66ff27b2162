"""The digits model in copies and what it reads; tiny Whisper models in CTranslate2's format."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import soundfile

from support.paths import DIGITS

Weights = dict[str, npt.NDArray[np.generic]]

TYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")
WIDTH, HEADS, MELS, FRAMES, POSITIONS = 16, 2, 8, 24, 32


def text(value: str) -> bytes:
    raw = value.encode() + b"\0"
    return struct.pack("<H", len(raw)) + raw


def model_bytes(
    variables: Mapping[str, npt.NDArray[np.generic]],
    aliases: Mapping[str, str],
    *,
    version: int = 6,
    spec: str = "WhisperSpec",
) -> bytes:
    """A whole model.bin; uint16 arrays are written as bfloat16."""
    parts = [struct.pack("<I", version), text(spec), struct.pack("<II", 3, len(variables))]
    for name, values in variables.items():
        dtype = "bfloat16" if values.dtype == np.uint16 else values.dtype.name
        parts += [text(name), struct.pack("<B", values.ndim)]
        parts += [struct.pack("<I", n) for n in values.shape]
        parts += [struct.pack("<BI", TYPES.index(dtype), values.nbytes), values.tobytes()]
    parts.append(struct.pack("<I", len(aliases)))
    parts += [text(alias) + text(name) for alias, name in aliases.items()]
    return b"".join(parts)


def special_tokens() -> list[str]:
    languages = ["en", "de", *(f"x{i}" for i in range(97))]
    after = ["translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"]
    names = ["endoftext", "startoftranscript", *languages, *after]
    assert len(names) == 107
    return [f"<|{n}|>" for n in names] + [f"<|{i / 50:.2f}|>" for i in range(1501)]


def random_weights(vocabulary: int, dtype: str) -> Weights:
    rng = np.random.default_rng(7)
    weights: Weights = {}

    def add(name: str, *shape: int, scale: float = 0.3, mean: float = 0.0) -> None:
        weights[name] = (mean + scale * rng.standard_normal(shape)).astype(dtype)

    def norm(name: str) -> None:
        add(f"{name}/gamma", WIDTH, mean=1.0)
        add(f"{name}/beta", WIDTH)

    def linear(name: str, outputs: int, inputs: int) -> None:
        add(f"{name}/weight", outputs, inputs)
        add(f"{name}/bias", outputs)

    for name, inputs in (("conv1", MELS), ("conv2", WIDTH)):
        add(f"encoder/{name}/weight", WIDTH, inputs, 3)
        add(f"encoder/{name}/bias", WIDTH)
    add("encoder/position_encodings/encodings", FRAMES // 2, WIDTH)
    add("decoder/position_encodings/encodings", POSITIONS, WIDTH)
    add("decoder/embeddings/weight", vocabulary, WIDTH)
    for part, layers in (("encoder", 2), ("decoder", 3)):
        norm(f"{part}/layer_norm")
        for i in range(layers):
            scope = f"{part}/layer_{i}"
            norm(f"{scope}/self_attention/layer_norm")
            linear(f"{scope}/self_attention/linear_0", 3 * WIDTH, WIDTH)
            linear(f"{scope}/self_attention/linear_1", WIDTH, WIDTH)
            if part == "decoder":
                norm(f"{scope}/attention/layer_norm")
                linear(f"{scope}/attention/linear_0", WIDTH, WIDTH)
                linear(f"{scope}/attention/linear_1", 2 * WIDTH, WIDTH)
                linear(f"{scope}/attention/linear_2", WIDTH, WIDTH)
            norm(f"{scope}/ffn/layer_norm")
            linear(f"{scope}/ffn/linear_0", 4 * WIDTH, WIDTH)
            linear(f"{scope}/ffn/linear_1", WIDTH, 4 * WIDTH)
    flags = {"activation": 3, "pre_norm": 1, "scale_embeddings": 0}
    weights |= {f"decoder/{name}": np.array(value, np.int8) for name, value in flags.items()}
    weights |= {f"{part}/num_heads": np.array(HEADS, np.int16) for part in ("encoder", "decoder")}
    return weights


@pytest.fixture
def write_model() -> Callable[..., bytes]:
    """Makes the bytes of a model.bin from variables and aliases."""
    return model_bytes


@pytest.fixture(
    params=[(False, "float16"), (True, "float32")], ids=["english-half", "multi-single"]
)
def tiny_whisper(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, Weights]:
    """A source folder for the exporter and its weights."""
    multilingual, dtype = request.param
    special = special_tokens()
    words = 50257 if multilingual else 50256
    vocabulary = [f"w{i}" for i in range(words)] + special
    weights = random_weights(len(vocabulary), dtype)
    folder = tmp_path / "source"
    folder.mkdir()
    aliases = {"decoder/projection/weight": "decoder/embeddings/weight"}
    (folder / "model.bin").write_bytes(model_bytes(weights, aliases))
    (folder / "vocabulary.txt").write_text("\n".join(vocabulary) + "\n", "utf-8")
    (folder / "config.json").write_text(
        json.dumps({"suppress_ids": [1], "suppress_ids_begin": [2]})
    )
    return folder, weights


@pytest.fixture(scope="module")
def digits_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the digits model's own files."""
    folder = tmp_path_factory.mktemp("digits")
    for path in DIGITS.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    return folder


def digits_in(folder: Path, precision: str | None) -> dict[str, str]:
    """What a model reads in the digits clips, by onnx-asr."""
    import onnx_asr

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    model = onnx_asr.load_model(
        "nemo-conformer-tdt",
        folder,
        quantization=precision,
        sess_options=options,
        providers=["CPUExecutionProvider"],
    )
    texts = {}
    for clip in sorted((DIGITS / "clips").glob("*.flac")):
        samples, rate = soundfile.read(clip, dtype="float32")
        texts[clip.name] = model.recognize(samples, sample_rate=rate)
    return texts


@pytest.fixture(scope="session")
def recognised() -> Callable[[Path, str | None], dict[str, str]]:
    """Reads the digits clips with a model in a precision: file name -> text."""
    return digits_in


@pytest.fixture(scope="session")
def digits_texts() -> dict[str, str]:
    """What the FP32 digits model reads in its ten clips."""
    texts = digits_in(DIGITS, None)
    assert len(texts) == 10
    assert any(texts.values())
    return texts
