"""What lies in a model folder: its family, its precisions, and what is wrong with each.

Layout (onnx-asr's): `config.json` names the type; a precision is part of the file name, so that
`encoder-model.fp16.onnx` is the FP16 encoder and `encoder-model.onnx` the FP32 one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stt.engine.manifest import MANIFEST, Manifest, Measurement, Proof, read_json
from stt.errors import ModelError

if TYPE_CHECKING:
    from stt.engine.recognizer import Probe, Recognizer
    from stt.engine.sessions import Runtime

PRECISIONS = ("fp16", "fp32", "int8")
"""In the order `auto` prefers them."""
STARTER = "starter"
"""Name of the embedded default, built from package data and never downloaded."""

TUNED = "tuned"
"""Stands in file names where a precision does: FP32 written tighter by `stt.convert.attention`."""
CUDA = "cuda"
"""Stands behind the precision in names of files that only CUDA runs, see `stt.convert.cuda`."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A usable model folder, as found on disk."""

    path: Path
    family: ModelFamily
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
    its LSTM quantises all of them by one scale (docs/measurements/speed.md).
    """
    tuned: bool = False
    """Whether FP32 is there in its tuned form too: complete and proven."""
    cuda: frozenset[str] = frozenset()
    """Precisions that are there in a form for CUDA too: complete and proven."""

    @property
    def as_published(self) -> ModelFolder:
        """The folder as if nothing were there but the files of each precision themselves."""
        return replace(self, tuned=False, cuda=frozenset())

    def check_vocabulary(self) -> None:
        """Read the vocabulary as a whole.

        Raises:
            ModelError: it is no list of tokens.
        """
        if problem := self.family.vocabulary_problem(self.path):
            raise ModelError(f"{self.path}: {problem}; run `stt setup` for this model again")

    @property
    def name(self) -> str:
        """The folder's name, e.g. parakeet."""
        return self.path.resolve().name

    @property
    def max_audio_s(self) -> int:
        """Longest audio the model takes, in seconds."""
        return int(self.config.get("max_audio_s", self.family.longest_s(self.config)))


class ModelFamily(ABC):
    """One kind of model: its files, how it is loaded, and what its proof runs.

    A family is one class in one file of `stt.models`, and one line of `stt.models.FAMILIES`.
    """

    name: str
    """`model_type` in config.json, and what onnx-asr calls it."""
    graph_stems: tuple[str, ...]
    """Its graphs, without precision and ending; the encoder first."""
    part_stems: tuple[str, ...] = ()
    """What its second graph becomes when it is taken apart, see `stt.convert.split`."""
    step_stem: str | None = None
    """A round of its decoder as one graph, see `stt.convert.decoding_step`."""
    vocabulary: tuple[str, ...]
    """Files beside the graphs that it needs."""
    feature_sizes: tuple[int, ...] = ()
    """Values that features_size may have, the first where config.json does not say; empty: any."""
    language: str | None = None
    """Of all it writes, e.g. en; None where it knows several."""
    is_set_up: bool = True
    """Whether `stt setup` takes any model of the family."""

    def graphs(self, precision: str) -> tuple[str, ...]:
        """Return the file names of the graphs of one precision."""
        return tuple(_file_name(stem, precision) for stem in self.graph_stems)

    def parts(self, precision: str) -> tuple[str, ...]:
        """Return the file names of the second graph's parts; none where it is not taken apart."""
        return tuple(_file_name(stem, precision) for stem in self.part_stems)

    @property
    def step_durations(self) -> int:
        """How many outputs of its decoder are durations."""
        return 0

    def for_cuda(self, precision: str) -> tuple[str, ...]:
        """Return the file names of a precision's form for CUDA: its graphs, and the step's last."""
        form = cuda_form(precision)
        steps = () if self.step_stem is None else (_file_name(self.step_stem, form),)
        return (*self.graphs(form), *steps)

    def vocabulary_problem(self, path: Path) -> str | None:
        """Say what is wrong with the vocabulary of the folder `path`, read as a whole."""
        del path
        return None

    def english_only(self, config: Mapping[str, Any]) -> bool:
        """Whether a model with this config.json writes English whatever is spoken."""
        del config
        return False

    @abstractmethod
    def longest_s(self, config: Mapping[str, Any]) -> int:
        """Return the longest audio that a model with this config.json takes, in seconds."""

    @abstractmethod
    def load(self, folder: ModelFolder, precision: str, runtime: Runtime) -> Recognizer:
        """Load one precision.

        Raises:
            ModelError: its files do not load, or do not fit together.
        """

    @abstractmethod
    def probe(self, folder: ModelFolder, precision: str) -> Probe:
        """Load one precision on the CPU, for its proof.

        Raises:
            ModelError: its files do not load, or do not fit together.
        """


def cuda_form(precision: str) -> str:
    """Return what stands in file names for a precision's form for CUDA."""
    return CUDA if precision == "fp32" else f"{precision}.{CUDA}"


def plain(form: str) -> str:
    """Return the precision that a form for CUDA is of."""
    return "fp32" if form == CUDA else form.removesuffix(f".{CUDA}")


def _file_name(stem: str, precision: str) -> str:
    return f"{stem}.onnx" if precision == "fp32" else f"{stem}.{precision}.onnx"


def absent(precision: str) -> str:
    """Return the problem of a precision that has no files at all."""
    return f"no {precision} files"


def read_folder(path: Path, families: Mapping[str, ModelFamily]) -> ModelFolder:
    """Read a model folder without loading it; `families`: those known, by `model_type`.

    Raises:
        ModelError: not a folder, no usable config.json or manifest.json, a vocabulary missing, or
            no model at all.
    """
    if path.is_file():
        raise ModelError(f"{path}: is a file; a model is a folder, see `stt transcribe --help`")
    if not path.is_dir():
        raise ModelError(f"{path}: no such model folder; check the path, or run `stt setup`")
    config = read_json(path / "config.json")
    family = _family(path, config, families)
    manifest = Manifest.read(path).findings(path / MANIFEST)
    for name in family.vocabulary:
        if problem := _file_problem(path, name, manifest.sizes):
            raise ModelError(f"{path}: {problem}; run `stt setup` for this model again")
    problems = {
        precision: _problem(path, family.graphs(precision), precision, manifest.sizes)
        for precision in PRECISIONS
    }
    if all(problems.values()):
        missing = "; ".join(dict.fromkeys(p for p in problems.values() if p))
        raise ModelError(
            f"{path}: no complete model: {missing}; run `stt setup` for this model again"
        )
    split = frozenset(
        precision
        for precision in manifest.split & {"fp32", "fp16"}
        if (names := family.parts(precision))
        and not any(_file_problem(path, name, manifest.sizes) for name in names)
    )
    tuned = manifest.tuned and problems["fp32"] is None
    if tuned:
        tuned = not any(_file_problem(path, n, manifest.sizes) for n in family.graphs(TUNED))
    cuda = frozenset(
        precision
        for precision in manifest.cuda & {"fp32", "fp16"}
        if problems[precision] is None
        and not any(_file_problem(path, n, manifest.sizes) for n in family.for_cuda(precision))
    )
    return ModelFolder(
        path, family, config, problems, manifest.proofs, manifest.measured, split, tuned, cuda
    )


def _family(
    path: Path, config: Mapping[str, Any], families: Mapping[str, ModelFamily]
) -> ModelFamily:
    name = config.get("model_type")
    family = families.get(name) if isinstance(name, str) else None
    if family is None:
        raise ModelError(
            f"{path}/config.json: model_type {name!r} is not known; use one of "
            f"{', '.join(families)}"
        )
    sizes = family.feature_sizes
    if sizes and (size := config.get("features_size", sizes[0])) not in sizes:
        raise ModelError(
            f"{path}/config.json: features_size {size!r} is not known; use one of "
            f"{', '.join(map(str, sizes))}"
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
    return family


def _problem(
    path: Path, names: Sequence[str], precision: str, sizes: Mapping[str, int]
) -> str | None:
    """Say what is wrong with the graphs of one precision, weights beside them included."""
    if not any((path / name).exists() for name in names):
        # until 2026-11-27 FP16 with parts in FP32 was a precision of its own
        mixed = [path / name.replace(".fp16.", ".mixed.") for name in names]
        if precision == "fp16" and all(file.exists() for file in mixed):
            return f"{absent(precision)} but mixed ones of an older version, run `stt setup` again"
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
