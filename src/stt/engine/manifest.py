"""`manifest.json`: what set-up writes down of a model folder, and what those who run it read."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from stt.errors import ModelError

MANIFEST = "manifest.json"
_BLOCK = 1 << 22
_TOOLS = ("stt-parakeet", "onnx", "onnx-asr", "numpy", "huggingface-hub")
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
class Findings:
    """What set-up found of a folder, as far as it matters to those who run its model."""

    sizes: Mapping[str, int]
    """File -> bytes."""
    proofs: Mapping[str, Proof]
    measured: Mapping[tuple[str, str], Measurement]
    split: frozenset[str]
    tuned: bool
    cuda: frozenset[str]


def _measurement(row: Mapping[str, Any]) -> Measurement:
    found = [row.get(name) for name in ("load_s", "peak_mib", "rtfx_low", "rtfx_high")]
    figures = [None if figure is None else float(figure) for figure in found]
    return Measurement(float(row["rtfx"]), row["correct"] is True, *figures)


def read_json(path: Path) -> dict[str, Any]:
    """Read an object of a model folder's JSON file.

    Raises:
        ModelError: it is missing, or no object.
    """
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


@dataclass(slots=True)
class Manifest:
    """The contents of a manifest; `save` writes it whole."""

    source: str = ""
    """Repository id, or the folder it was imported from."""
    revision: str | None = None
    licence: str = ""
    made_from: dict[str, Any] = field(default_factory=dict)
    """Of the starter: the weights it was built from."""
    keep_fp32: bool = True
    """Whether FP32 stays when another precision is proven."""
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name -> size in bytes, sha256, and for converted ones made_from and what was done."""
    precisions: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Precision -> proven, why, checks with figures and bounds."""
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Precision -> the same of its decoder_joint taken apart, and what that was made from."""
    tuned: dict[str, Any] = field(default_factory=dict)
    """What was found of FP32 written tighter: as of a precision, and what it was made from."""
    cuda: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Precision -> the same of its form for CUDA."""
    measurements: list[dict[str, Any]] = field(default_factory=list)
    """precision, provider, correct, and the rest of a `stt.install.measure.Speed`."""
    timings: dict[str, float] = field(default_factory=dict)
    """Step of set-up -> seconds it took when it was last done."""
    rates: dict[str, float] = field(default_factory=dict)
    """Kind of work -> seconds for a unit, see `stt.install.installation`."""
    tools: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read a folder's manifest; an empty one where there is none.

        What it tells of `mixed`, a precision of its own until 2026-11-27, is left out.

        Raises:
            ModelError: it cannot be read.
        """
        path = folder / MANIFEST
        try:
            return cls(**_current(json.loads(path.read_text("utf-8"))))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise _unlike(path, error) from error

    def findings(self, path: Path) -> Findings:
        """Return what matters to those who run the model; `path` is where it was read.

        Raises:
            ModelError: something is not as set-up writes it.
        """
        try:
            return Findings(
                sizes={name: int(entry["size"]) for name, entry in self.files.items()},
                proofs={
                    name: Proof(entry["proven"] is True, str(entry.get("why") or ""))
                    for name, entry in self.precisions.items()
                },
                measured={
                    (row["precision"], row["provider"]): _measurement(row)
                    for row in self.measurements
                },
                split=_proven(self.splits),
                tuned=self.tuned.get("proven") is True,
                cuda=_proven(self.cuda),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _unlike(path, error) from error

    def save(self, folder: Path) -> None:
        """Write it under a temporary name, then in place."""
        self.tools = dict(tools())
        content = {key: getattr(self, key) for key in self.__slots__}
        partial = folder / f".{MANIFEST}.partial"
        partial.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
        partial.replace(folder / MANIFEST)

    def verdict(self, section: str, precision: str) -> dict[str, Any]:
        """What was found of an artifact: proven, why, checks, made_from; empty where nothing was.

        Args:
            section: precisions, splits, cuda or tuned.
            precision: which, in its section; the section `tuned` has one only.
        """
        entries: dict[str, Any] = getattr(self, section)
        return entries if section == "tuned" else entries.get(precision, {})

    def judge(self, section: str, precision: str, entry: dict[str, Any]) -> None:
        """Note what was found of an artifact."""
        if section == "tuned":
            self.tuned = entry
        else:
            getattr(self, section)[precision] = entry

    def forget(self, section: str, precision: str, names: tuple[str, ...]) -> None:
        """Drop what is written of an artifact, what hangs on it, and its files `names`."""
        if section == "tuned":
            self.tuned = {}
        else:
            getattr(self, section).pop(precision, None)
        if section == "precisions":
            self.splits.pop(precision, None)
            self.cuda.pop(precision, None)
            self.measurements = [m for m in self.measurements if m["precision"] != precision]
        for name in names:
            self.files.pop(name, None)
            self.files.pop(f"{name}.data", None)


def _proven(section: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    return frozenset(name for name, entry in section.items() if entry["proven"] is True)


def _unlike(path: Path, error: Exception) -> ModelError:
    return ModelError(
        f"{path}: is not as set-up writes it ({type(error).__name__}: {error}); "
        "delete it and run `stt setup` again"
    )


def _current(content: dict[str, Any]) -> dict[str, Any]:
    """What this version knows of a manifest's contents: without `mixed`."""
    known = {key: value for key, value in content.items() if key in Manifest.__slots__}
    for section in ("precisions", "splits"):
        known.get(section, {}).pop("mixed", None)
    rows = known.get("measurements", [])
    return known | {"measurements": [row for row in rows if row["precision"] != "mixed"]}


@cache
def tools() -> dict[str, str]:
    """Versions of what made the files."""
    from importlib import metadata  # brings much; recognising does without

    found = {"python": platform.python_version()}
    for name in (*_TOOLS, "onnxruntime", "onnxruntime-gpu"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def sha256_of(path: Path, on_read: Callable[[int], None] = lambda _: None) -> str:
    """SHA-256 of a file in hex; `on_read` is called with the bytes read so far."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            done += len(block)
            on_read(done)
    return digest.hexdigest()
