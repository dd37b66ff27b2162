"""What scripts run on where nothing is named: the clone's own recordings, and the tests' model.

More is named by its folder, which holds a list of its recordings with their texts: `manifest.jsonl`
(a line for each, with path, text, lang and duration_s; the first folder of a path is its set) or,
as in samples/, `references.tsv` (file and text; such recordings belong to every set).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from stt.types import SAMPLE_RATE, Samples

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "samples"
DIGITS_MODEL = ROOT / "tests" / "data" / "parakeet-digits"
AUDIO_HELP = "folder with manifest.jsonl or references.tsv; default: samples/ of the clone"
MODEL_HELP = "folder in onnx-asr's layout; default: the tests' small model"


def rows(folder: Path) -> list[dict[str, Any]]:
    """Read a folder's list: path, text, lang and duration_s of each recording."""
    manifest, table = folder / "manifest.jsonl", folder / "references.tsv"
    if manifest.exists():
        return [json.loads(line) for line in manifest.read_text("utf-8").splitlines()]
    if not table.exists():
        sys.exit(f"{folder}: no manifest.jsonl or references.tsv in it; name a folder with one")
    pairs = (line.split("\t")[:2] for line in table.read_text("utf-8").splitlines())
    return [
        {
            "path": name,
            "text": text,
            "lang": "en",
            "duration_s": soundfile.info(folder / name).duration,
        }
        for name, text in pairs
        if (folder / name).is_file()
    ]


def read(path: Path) -> Samples:
    """Read a recording as float32 [n] mono at 16 kHz."""
    values, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return np.asarray(soxr.resample(values.mean(axis=1), rate, SAMPLE_RATE), np.float32)


def word_error_rate(
    references: Sequence[str], texts: Sequence[str], normalise: Callable[[str], str] | None = None
) -> float:
    """WER in percent over all texts together, after Whisper's English normaliser or another."""
    import jiwer
    from whisper_normalizer.english import EnglishTextNormalizer

    plain = normalise or EnglishTextNormalizer()
    pairs = [(plain(one), plain(two)) for one, two in zip(references, texts, strict=True)]
    pairs = [pair for pair in pairs if pair[0]]
    return 100 * float(jiwer.wer([one for one, _ in pairs], [two for _, two in pairs]))


def in_set(row: dict[str, Any], *names: str) -> bool:
    """Whether a recording is in one of these sets."""
    parts = Path(row["path"]).parts
    return len(parts) == 1 or parts[0] in names


@contextmanager
def group(name: str) -> Iterator[None]:
    """Import inside: a package that is missing is one line that names the dependency group."""
    try:
        yield
    except ModuleNotFoundError as error:
        sys.exit(f"the package {error.name} is missing; install it: pip install --group {name}")
