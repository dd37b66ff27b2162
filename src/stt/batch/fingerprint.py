"""All that the words of a recording depend on but its sound."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from stt.engine.folder import MANIFEST, TUNED, ModelFolder, graph_names, split_names
from stt.engine.manifest import Manifest
from stt.transcriber import ModelTranscriber

_METHOD = 3
"""Raised when the same model with the same settings would give other words."""


def recipe(transcriber: ModelTranscriber) -> dict[str, Any]:
    """All that the words of a recording depend on but its sound, to be compared by a later run."""
    choice, cutting, heard = transcriber.choice, transcriber.cutting, transcriber.selection
    return {
        "model": transcriber.model,
        "model files": _fingerprint(transcriber.folder, choice.precision),
        "precision": choice.precision,
        "provider": choice.provider,
        "longest utterance": cutting.max_utterance_s,
        "VAD threshold": cutting.vad_threshold or "off",
        "batch size": cutting.batch_size,
        "track": heard.track or "default",
        "channel": heard.channel or "mixed",
        "start": heard.start,
        "end": "open" if heard.end is None else heard.end,
        "method of stt": _METHOD,
    }


def _fingerprint(folder: ModelFolder, precision: str) -> str:
    """A digest of the files that one precision runs: by the manifest's hashes where it has them."""
    names = [*graph_names(folder.kind, precision), *split_names(precision)]
    if folder.tuned and precision == "fp32":
        names += graph_names(folder.kind, TUNED)
    known = Manifest.read(folder.path).files if (folder.path / MANIFEST).exists() else {}
    told = []
    for name in (*names, *(f"{name}.data" for name in names), "vocab.txt", "config.json"):
        path = folder.path / name
        if path.exists():
            stat = path.stat()
            told.append([name, known.get(name, {}).get("sha256", [stat.st_size, stat.st_mtime_ns])])
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


_WHOLE = {"track": "default", "channel": "mixed", "start": 0.0, "end": "open"}
"""What was heard of recordings before there was a choice."""
_WITHOUT_VALUES = ("model files", "method of stt")


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say in which respects two recipes differ."""
    return ", ".join(
        f"{key} was {before.get(key)} and is {now[key]}"
        if key not in _WITHOUT_VALUES
        else f"{key} changed"
        for key in now
        if before.get(key, _WHOLE.get(key)) != now[key]
    )
