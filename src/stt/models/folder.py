"""What lies in a model folder: its kind, its precisions, and what is wrong with each.

Layout (onnx-asr's): `config.json` names the type; a precision is part of the file name, so that
`encoder-model.fp16.onnx` is the FP16 encoder and `encoder-model.onnx` the FP32 one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stt.errors import ModelError

PRECISIONS = ("fp16", "fp32", "int8")
MANIFEST = "manifest.json"

_PAIRS = {
    "nemo-conformer-tdt": ("encoder-model", "decoder_joint-model"),
    "whisper": ("encoder_model", "decoder_model_merged"),
}
_VOCABULARY = {
    "nemo-conformer-tdt": ("vocab.txt",),
    "whisper": ("vocab.json", "added_tokens.json"),
}
_MAX_AUDIO_S = {"nemo-conformer-tdt": 400, "whisper": 30}
"""Hard limits in seconds: the export's position table; Whisper's window. A `max_audio_s` in
config.json says otherwise for models with a shorter table."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What set-up measured of one precision on one provider of this machine."""

    rtfx: float
    """Seconds of audio per second."""
    correct: bool
    """Whether its results agreed with FP32."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A usable model folder, as found on disk."""

    path: Path
    kind: str
    """nemo-conformer-tdt or whisper."""
    config: Mapping[str, Any]
    problems: Mapping[str, str | None]
    """Precision -> None where its files are complete, else what is wrong. Absent ones included."""
    measured: Mapping[tuple[str, str], Measurement]
    """(precision, provider) -> what set-up measured here; empty before set-up measured."""

    @property
    def name(self) -> str:
        """The folder's name, e.g. parakeet."""
        return self.path.resolve().name

    @property
    def max_audio_s(self) -> int:
        """Longest audio the model takes, in seconds."""
        return int(self.config.get("max_audio_s", _MAX_AUDIO_S[self.kind]))


def pair_names(kind: str, precision: str) -> tuple[str, str]:
    """Return the names of the encoder and decoder files of one precision."""
    suffix = "" if precision == "fp32" else f".{precision}"
    encoder, decoder = _PAIRS[kind]
    return f"{encoder}{suffix}.onnx", f"{decoder}{suffix}.onnx"


def inspect(path: Path) -> ModelFolder:
    """Read a model folder without loading it.

    Raises:
        ModelError: not a folder, no usable config.json, a vocabulary missing, or no model at all.
    """
    if path.is_file():
        raise ModelError(f"{path}: is a file; a model is a folder, see `stt transcribe --help`")
    if not path.is_dir():
        raise ModelError(f"{path}: no such model folder; check the path, or run `stt setup`")
    config = _json(path / "config.json")
    kind = config.get("model_type")
    if kind not in _PAIRS:
        raise ModelError(
            f"{path}/config.json: model_type {kind!r} is not known; use one of {', '.join(_PAIRS)}"
        )
    manifest = _json(path / MANIFEST) if (path / MANIFEST).exists() else {}
    sizes = {name: entry.get("size") for name, entry in manifest.get("files", {}).items()}
    for name in _VOCABULARY[kind]:
        if problem := _file_problem(path, name, sizes):
            raise ModelError(f"{path}: {problem}; run `stt setup` for this model again")
    problems = {precision: _pair_problem(path, kind, precision, sizes) for precision in PRECISIONS}
    if all(problems.values()):
        told = "; ".join(dict.fromkeys(p for p in problems.values() if p))
        raise ModelError(f"{path}: no complete model: {told}; run `stt setup` for this model again")
    return ModelFolder(path, kind, config, problems, _measurements(manifest))


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"{path.parent}: {path.name} is missing; run `stt setup`, or name a model folder"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); run `stt setup` again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: is not a JSON object; run `stt setup` again")
    return content


def _pair_problem(path: Path, kind: str, precision: str, sizes: Mapping[str, Any]) -> str | None:
    names = pair_names(kind, precision)
    found = [problem for name in names if (problem := _file_problem(path, name, sizes))]
    if len(found) == len(names) and not any((path / name).exists() for name in names):
        return f"no {precision} files"
    # weights beside the graph belong to the pair wherever the manifest lists them
    found += [
        problem
        for name in sizes
        if name.removesuffix(".data") in names
        and name.endswith(".data")
        and (problem := _file_problem(path, name, sizes))
    ]
    return "; ".join(found) or None


def _file_problem(path: Path, name: str, sizes: Mapping[str, Any]) -> str | None:
    try:
        size = (path / name).stat().st_size
    except FileNotFoundError:
        return f"{name} is missing"
    if size == 0:
        return f"{name} is empty"
    expected = sizes.get(name)
    if expected is not None and size != expected:
        return f"{name} has {size:,} bytes where {expected:,} belong"
    return None


def _measurements(manifest: Mapping[str, Any]) -> dict[tuple[str, str], Measurement]:
    return {
        (row["precision"], row["provider"]): Measurement(float(row["rtfx"]), bool(row["correct"]))
        for row in manifest.get("measurements", [])
    }
