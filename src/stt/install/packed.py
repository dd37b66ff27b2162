"""Graphs as ONNX Runtime runs them, kept on disk: they load in a fraction of the time.

When it loads an encoder, ONNX Runtime rewrites its graph and orders every weight, gigabytes of
them, as this processor multiplies it. `pack` has that written down. The folder it makes is again
one in onnx-asr's layout. It holds for one version of ONNX Runtime on one kind of processor, which
is noted as its key, and compared before it is used.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from stt.engine import sessions
from stt.engine.folder import TUNED, ModelFolder, graph_names, packed_folder
from stt.engine.precision import Known, choose
from stt.engine.sessions import runtime_errors
from stt.errors import ModelError
from stt.install import measure
from stt.install.clips import Clip
from stt.install.installation import Installation
from stt.models.onnx_asr_edge import load_ctc, load_tdt

LEAST_GAIN_S = 1.0
"""Seconds of loading that a copy must save: it takes twice the disk that FP32 does."""
_GROWTH = 2
"""Bytes of a copy for each of FP32, at most: each weight is in it as it was, and packed."""
_CLIPS = 2
"""Clips whose encoder output must be the same, bit for bit."""
_BESIDE = ("config.json", "vocab.txt")


def keep(at: Installation, clips: Sequence[Clip], *, force: bool, asked: bool) -> None:
    """Have a packed copy of what `auto` takes on the CPU, where one is wanted and worth it.

    Args:
        at: the installation; its manifest says whether copies are wanted.
        clips: see `pack`.
        force: pack again what is packed.
        asked: a person waits for one, and is told why there is none.
    """
    model, wanted = at.model, at.manifest.fast_load
    if model.kind == "whisper":
        return
    known = Known.of(model, "cpu")
    precision = choose("auto", known).precision
    for other in [p for p in at.manifest.packed if p != precision or not wanted]:
        drop(at, other)
    row = model.measured.get((precision, "cpu"))
    if not wanted or row is None or (is_settled(at, precision) and not force):
        return
    if (row.load_s or 0.0) <= LEAST_GAIN_S:
        if asked:
            at.events.note(f"{precision}: not packed (it loads in {row.load_s:.1f} s as it is)")
    elif not fits(at, precision):
        at.events.note(f"{precision}: not packed (the disk has no room for it)")
    elif speed := pack(at, precision, clips):
        at.loaded(speed)


def sweep(at: Installation) -> None:
    """Delete copies that the manifest does not know: of a set-up that was killed."""
    kept = {packed_folder(at.folder, precision).name for precision in at.manifest.packed}
    anything = packed_folder(at.folder, "*").name
    for left in (*at.folder.glob(_partial(anything)), *at.folder.glob(anything)):
        if left.name not in kept:
            shutil.rmtree(left)
            for name in [n for n in at.manifest.files if n.startswith(f"{left.name}/")]:
                del at.manifest.files[name]


def fits(at: Installation, precision: str) -> bool:
    """Whether the disk has room for a packed copy."""
    names = graph_names(at.model.kind, precision)
    files = [at.manifest.files.get(part, {}) for n in names for part in (n, f"{n}.data")]
    size: int = sum(file.get("size", 0) for file in files)
    if precision in ("fp16", "mixed"):
        size *= 2  # a CPU computes them in FP32
    return shutil.disk_usage(at.folder).free > _GROWTH * size


def is_settled(at: Installation, precision: str) -> bool:
    """Whether it was packed for this machine from these files, or was found not worth it."""
    known = at.manifest.packed.get(precision)
    if (
        known is None
        or known.get("key") != sessions.packing_key()
        or known["made_from"] != _origin(at, precision)
    ):
        return False
    return all(at.is_right(name) for name in known["files"])


def pack(
    at: Installation,
    precision: str,
    clips: Sequence[Clip],
    least_gain_s: float = LEAST_GAIN_S,
) -> measure.Speed | None:
    """Pack one precision, and keep it where it is exact and loads faster.

    Args:
        at: the installation.
        precision: proven, or FP32.
        clips: encoded with and without.
        least_gain_s: seconds of loading it must save.

    Returns:
        What was measured with it; None where it was not kept. A note says which.
    """
    drop(at, precision)
    before = measure.measure(at.folder, precision, "cpu")
    known = {"key": sessions.packing_key(), "made_from": _origin(at, precision)}
    speed, why_not = None, "what this processor can do is not told"
    refusals: tuple[type[Exception], ...] = (ModelError, OSError, *runtime_errors())
    if known["key"] is not None:
        try:
            files = _write(at, precision)
            at.manifest.packed[precision] = known | {"files": files}
            at.save()
            why_not = _difference(at.model, precision, clips)
            speed = None if why_not else measure.measure(at.folder, precision, "cpu")
        except refusals as error:
            why_not = " ".join(str(error).split())
    if speed is not None and before.load_s - speed.load_s >= least_gain_s:
        size = sum(at.manifest.files[name]["size"] for name in files)
        at.events.note(
            f"{precision}: packed for this processor, loads in {speed.load_s:.1f} s instead of "
            f"{before.load_s:.1f} ({size / 1e9:.2f} GB of disk)"
        )
        return speed
    if speed is not None:
        why_not = f"loads in {speed.load_s:.1f} s, and in {before.load_s:.1f} without"
    at.events.note(f"{precision}: not packed ({why_not})")
    drop(at, precision)
    at.manifest.packed[precision] = known | {"files": []}
    at.save()
    return None


def drop_stale(at: Installation) -> None:
    """Delete copies of files that are no longer what they were."""
    for precision, known in list(at.manifest.packed.items()):
        if known["made_from"] != _origin(at, precision):
            drop(at, precision)


def drop(at: Installation, precision: str) -> None:
    """Delete a packed copy and forget it."""
    for name in at.manifest.packed.pop(precision, {}).get("files", ()):
        at.manifest.files.pop(name, None)
    at.save()
    shutil.rmtree(packed_folder(at.folder, precision), ignore_errors=True)


def _origin(at: Installation, precision: str) -> list[dict[str, Any]]:
    return [at.made_from(name) for name in graph_names(at.model.kind, precision)]


def _partial(name: str) -> str:
    return f".{name}.partial"


def _write(at: Installation, precision: str) -> list[str]:
    """Write the folder, and its files into the manifest; returns their names."""
    target = packed_folder(at.folder, precision)
    partial = target.with_name(_partial(target.name))
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    model = at.model
    names = graph_names(model.kind, precision)
    sources = graph_names(model.kind, TUNED if model.tuned and precision == "fp32" else precision)
    for number, (source, name) in enumerate(zip(sources, names, strict=True)):
        at.events.progress(f"packing {precision}", number, len(names))
        sessions.pack(at.folder / source, partial / name)
    for name in _BESIDE:
        shutil.copyfile(at.folder / name, partial / name)
    partial.replace(target)
    files = sorted(f"{target.name}/{path.name}" for path in target.iterdir())
    for name in files:
        at.manifest.files[name] = {
            "size": (at.folder / name).stat().st_size,
            "sha256": at.hash(name),
        }
    return files


def _difference(model: ModelFolder, precision: str, clips: Sequence[Clip]) -> str:
    """Say that something else comes out of the packed encoder; empty where it does not."""
    load = load_ctc if model.kind == "nemo-conformer-ctc" else load_tdt
    found = []
    for folder in (replace(model, packed={}), model):
        loaded = load(folder, precision, "cpu", 0)
        found.append([loaded.encode_all(clip.samples) for clip in clips[:_CLIPS]])
    same = all(
        length == told and np.array_equal(frames, packed)
        for (frames, length), (packed, told) in zip(*found, strict=True)
    )
    return "" if same else "its output differs"
