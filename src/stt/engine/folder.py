"""What lies in a model folder: its kind, its precisions, and what is wrong with each.

Layout (onnx-asr's): `config.json` names the type; a precision is part of the file name, so that
`encoder-model.fp16.onnx` is the FP16 encoder and `encoder-model.onnx` the FP32 one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stt.errors import ModelError

PRECISIONS = ("fp16", "mixed", "fp32", "int8")
"""In the order `auto` prefers them. `mixed` is FP16 with a few nodes in FP32."""
MANIFEST = "manifest.json"
STARTER = "starter"
"""Name of the embedded default, built from package data and never downloaded."""

_GRAPHS = {
    "nemo-conformer-tdt": ("encoder-model", "decoder_joint-model"),
    "nemo-conformer-rnnt": ("encoder-model", "decoder_joint-model"),
    "nemo-conformer-ctc": ("model",),
    "whisper": ("encoder_model", "decoder_model_merged"),
}
"""Graphs of each kind of model, without precision and ending."""
TRANSDUCERS = ("nemo-conformer-tdt", "nemo-conformer-rnnt")
_SPLIT = ("prediction-model", "encoder_projection-model", "joint-model")
"""What a decoder_joint becomes when it is taken apart, see `stt.convert.split`."""
TUNED = "tuned"
"""Stands in file names where a precision does: FP32 written tighter, see `stt.convert.tuned`."""
_WHISPER_VOCABULARY = ("vocab.json", "added_tokens.json")
_NEMO_VOCABULARY = ("vocab.txt",)
_WHISPER_WINDOW_S = 30
_POSITIONS = 5000
"""Encoder frames in the position table of NeMo's exports: a hard limit. A `max_audio_s` in
config.json says otherwise for models with a shorter table."""
_MELS = (80, 128)
"""Mel bands that onnx-asr has filters for; 80 where config.json does not say."""
_UNSURE = 1.15
"""How far a speed that was measured once may be off: one machine measured 12.3 and then 9.7."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What set-up found when it compared a precision with FP32 on audio."""

    proven: bool
    why: str
    """One phrase, e.g. "same words on 24 of 24 clips"; may be empty."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What set-up measured of one precision on one provider of this machine."""

    rtfx: float
    """Seconds of audio per second."""
    correct: bool
    """Whether its results agreed with FP32."""
    load_s: float | None = None
    """Seconds to load it."""
    peak_mib: float | None = None
    """Most memory the process held, in MiB."""
    rtfx_low: float | None = None
    """Lower end of the confidence interval of `rtfx`; None where it was measured only once."""
    rtfx_high: float | None = None

    @property
    def rtfx_bounds(self) -> tuple[float, float]:
        """Between which speeds the true one lies, in seconds of audio per second."""
        low = self.rtfx / _UNSURE if self.rtfx_low is None else self.rtfx_low
        return low, self.rtfx * _UNSURE if self.rtfx_high is None else self.rtfx_high


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A usable model folder, as found on disk."""

    path: Path
    kind: str
    """nemo-conformer-tdt, nemo-conformer-rnnt, nemo-conformer-ctc or whisper."""
    config: Mapping[str, Any]
    problems: Mapping[str, str | None]
    """Precision -> None where its files are complete, else what is wrong. Absent ones included."""
    proofs: Mapping[str, Proof]
    """Precision -> what set-up found; those it did not judge are missing."""
    measured: Mapping[tuple[str, str], Measurement]
    """(precision, provider) -> what set-up measured here; empty before set-up measured."""
    split: frozenset[str] = frozenset()
    """Precisions that decode with their decoder_joint in parts: complete, proven, not int8.

    In int8 the parts are slower for one utterance, and a batch does not give what each gives alone:
    its LSTM quantises all of them by one scale (docs/speed.md).
    """
    tuned: bool = False
    """Whether FP32 is there in its tuned form too: complete and proven."""

    @property
    def as_published(self) -> ModelFolder:
        """The folder as if nothing were there but the files of each precision themselves."""
        return replace(self, tuned=False)

    def check_vocabulary(self) -> None:
        """Read vocab.txt of a NeMo model as a whole.

        Raises:
            ModelError: it is no list of tokens.
        """
        if self.kind != "whisper" and (problem := _vocabulary_problem(self.path / "vocab.txt")):
            raise ModelError(f"{self.path}: {problem}; run `stt setup` for this model again")

    @property
    def name(self) -> str:
        """The folder's name, e.g. parakeet."""
        return self.path.resolve().name

    @property
    def max_audio_s(self) -> int:
        """Longest audio the model takes, in seconds."""
        if self.kind == "whisper":
            longest = _WHISPER_WINDOW_S
        else:
            longest = _POSITIONS * int(self.config.get("subsampling_factor", 8)) // 100
        return int(self.config.get("max_audio_s", longest))


def graph_names(kind: str, precision: str) -> tuple[str, ...]:
    """Return the names of the graphs of one precision: encoder and decoder, or one for CTC."""
    suffix = "" if precision == "fp32" else f".{precision}"
    return tuple(f"{name}{suffix}.onnx" for name in _GRAPHS[kind])


def split_names(precision: str) -> tuple[str, ...]:
    """Return the names of a decoder_joint's parts: prediction, encoder projection, joint."""
    suffix = "" if precision == "fp32" else f".{precision}"
    return tuple(f"{name}{suffix}.onnx" for name in _SPLIT)


def absent(precision: str) -> str:
    """Return the problem of a precision that has no files at all."""
    return f"no {precision} files"


def inspect(path: Path) -> ModelFolder:
    """Read a model folder without loading it.

    Raises:
        ModelError: not a folder, no usable config.json or manifest.json, a vocabulary missing, or
            no model at all.
    """
    if path.is_file():
        raise ModelError(f"{path}: is a file; a model is a folder, see `stt transcribe --help`")
    if not path.is_dir():
        raise ModelError(f"{path}: no such model folder; check the path, or run `stt setup`")
    config = _json(path / "config.json")
    kind = _kind(path, config)
    manifest = _Manifest.read(path / MANIFEST)
    for name in _WHISPER_VOCABULARY if kind == "whisper" else _NEMO_VOCABULARY:
        if problem := _file_problem(path, name, manifest.sizes):
            raise ModelError(f"{path}: {problem}; run `stt setup` for this model again")
    problems = {
        precision: _problem(path, kind, precision, manifest.sizes) for precision in PRECISIONS
    }
    if all(problems.values()):
        told = "; ".join(dict.fromkeys(p for p in problems.values() if p))
        raise ModelError(f"{path}: no complete model: {told}; run `stt setup` for this model again")
    split = frozenset(
        precision
        for precision in manifest.split - {"int8"}
        if not any(_file_problem(path, name, manifest.sizes) for name in split_names(precision))
    )
    tuned = manifest.tuned and problems["fp32"] is None
    if tuned:
        tuned = not any(_file_problem(path, n, manifest.sizes) for n in graph_names(kind, TUNED))
    return ModelFolder(
        path, kind, config, problems, manifest.proofs, manifest.measured, split, tuned
    )


def _kind(path: Path, config: Mapping[str, Any]) -> str:
    kind, mels = config.get("model_type"), config.get("features_size", _MELS[0])
    if not isinstance(kind, str) or kind not in _GRAPHS:
        raise ModelError(
            f"{path}/config.json: model_type {kind!r} is not known; use one of {', '.join(_GRAPHS)}"
        )
    if kind != "whisper" and mels not in _MELS:
        raise ModelError(
            f"{path}/config.json: features_size {mels!r} is not known; use one of "
            f"{', '.join(map(str, _MELS))}"
        )
    for key, (least, most) in {"subsampling_factor": (1, 64), "max_audio_s": (2, 86_400)}.items():
        value = config.get(key, least)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not (least <= value <= most)
        ):
            raise ModelError(
                f"{path}/config.json: {key} {value!r} is not usable; it is a number from {least} "
                f"to {most:,}"
            )
    return kind


def _vocabulary_problem(path: Path) -> str | None:
    """Say what is wrong with NeMo's vocabulary, a token and its number in each line."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    except UnicodeDecodeError as error:
        return f"{path.name} is not UTF-8 text (byte {error.start})"
    for number, line in enumerate(lines, start=1):
        parts = line.split(" ")
        if len(parts) != 2 or not parts[1].removeprefix("-").isdecimal():
            return f"{path.name}: line {number} is not a token and its number"
    return None


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


def _problem(path: Path, kind: str, precision: str, sizes: Mapping[str, int]) -> str | None:
    """Say what is wrong with the files of one precision, weights beside a graph included."""
    names = graph_names(kind, precision)
    if not any((path / name).exists() for name in names):
        return absent(precision)
    # weights belong to their graph wherever the manifest lists them
    weights = [f"{name}.data" for name in names if f"{name}.data" in sizes]
    found = [problem for n in (*names, *weights) if (problem := _file_problem(path, n, sizes))]
    return "; ".join(found) or None


def _file_problem(path: Path, name: str, sizes: Mapping[str, int]) -> str | None:
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


@dataclass(frozen=True, slots=True)
class _Manifest:
    """What set-up wrote down of a folder; empty where there is no manifest."""

    sizes: Mapping[str, int]
    """File -> bytes."""
    proofs: Mapping[str, Proof]
    measured: Mapping[tuple[str, str], Measurement]
    split: frozenset[str]
    tuned: bool

    @staticmethod
    def read(path: Path) -> _Manifest:
        content = _json(path) if path.exists() else {}
        try:
            return _Manifest(
                {name: int(entry["size"]) for name, entry in content.get("files", {}).items()},
                {
                    name: Proof(entry["proven"] is True, str(entry.get("why") or ""))
                    for name, entry in content.get("precisions", {}).items()
                },
                {
                    (row["precision"], row["provider"]): _measurement(row)
                    for row in content.get("measurements", [])
                },
                frozenset(n for n, e in content.get("splits", {}).items() if e["proven"] is True),
                content.get("tuned", {}).get("proven") is True,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                f"{path}: is not as set-up writes it ({type(error).__name__}: {error}); "
                "run `stt setup` again"
            ) from error


def _measurement(row: Mapping[str, Any]) -> Measurement:
    told = [row.get(name) for name in ("load_s", "peak_mib", "rtfx_low", "rtfx_high")]
    figures = [None if figure is None else float(figure) for figure in told]
    return Measurement(float(row["rtfx"]), row["correct"] is True, *figures)
