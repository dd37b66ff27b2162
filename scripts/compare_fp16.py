"""FP16 conversions of a model's encoder side by side: ours, other people's, and theirs repaired.

usage: python scripts/compare_fp16.py [MODEL_DIR] [-o TABLE.md] [--work DIR]

Each conversion is a process of its own, one after the other, so that its peak memory is its own;
another process checks the result. The usual ways need 2.5 times the model's size of memory, the
folder `--work` (emptied as it goes) room for two results. Lengths are counted wrong where
`encoded_lengths` differs from FP32: at twelve durations, and at all from 20.48 to 82 s in steps of
0.37 s; in ONNX Runtime as it optimises, in ONNX Runtime with the graph as written, and, for the
part of the graph that computes them, in ONNX's reference implementation: its float16 arithmetic is
real, as on a device that has it (ONNX Runtime on a CPU does much of it in float32, which hides
some of the fault).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from recordings import DIGITS_MODEL, MODEL_HELP
from stt.convert.casts import fix
from stt.convert.fp16 import convert, size_of
from stt.convert.graph import prepared
from stt.convert.model_file import GraphFile, read, write
from stt.errors import ModelError

sys.path.append(str(Path(__file__).parents[1] / "tests" / "convert"))  # graphs.py, others.py

TWELVE = (0.3, 1, 5, 20.4, 20.5, 30, 45.0, 47.0, 58.6, 100, 300, 399)
MANY = tuple(np.arange(20.48, 82, 0.37))
SECONDS = 30


def by_others(make: str, source: Path, target: Path) -> None:
    """Convert as the guides have it: the whole model in memory."""
    import others

    model = onnx.load(source)
    if make == "runtime":
        model = others.runtime_converter(model, in_place=True)
    else:
        model = others.usual_recipe(model, in_place=True)
    if make == "blanket":
        model = others.rewrite_casts(model)
    onnx.save(model, target)


def repair(source: Path, target: Path) -> str:
    """Run our pass over somebody's result."""
    settled = fix(read(source))
    write(target, settled.file.model, settled.file.weights.values())
    return f"{len(settled.changes)} changes"


def ours(source: Path, target: Path) -> str:
    """Convert as `stt setup` does."""
    done = convert(source, target)
    tally = done.tally
    return (
        f"{len(done.changes)} changes, {len(done.kept)} nodes kept in FP32, {tally.values:,} "
        f"numbers, {tally.clipped:,} clipped, {tally.raised:,} raised"
    )


WAYS: dict[str, Callable[[Path, Path], str | None]] = {
    "usual": lambda source, target: by_others("usual", source, target),
    "blanket": lambda source, target: by_others("blanket", source, target),
    "runtime": lambda source, target: by_others("runtime", source, target),
    "fix": repair,
    "ours": ours,
}


def session(path: Path, *, as_written: bool = False):
    """An ONNX Runtime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if as_written:
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = level
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def frames(seconds: float) -> int:
    """Feature frames as onnx-asr counts them."""
    return round(seconds * 16_000) // 160


def lengths(loaded) -> list[int]:
    """`encoded_lengths` of a whole encoder; what it is said to be fed is longer than what it is."""
    told = np.array([frames(s) for s in (*TWELVE, *MANY)])
    signal = np.zeros((len(told), 128, 64), np.float32)
    fed = {"audio_signal": signal, "length": told}
    return loaded.run(["encoded_lengths"], fed)[0].tolist()


def lengths_in_float16(path: Path) -> list[int]:
    """`encoded_lengths` by the part of the graph that computes them, in the reference."""
    import graphs
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(path, load_external_data=False)
    part = graphs.cut(model, "encoded_lengths", {"length": onnx.TensorProto.INT64})
    part = prepared(GraphFile(part, {})).model
    fed = {"length": np.array([frames(s) for s in (*TWELVE, *MANY)])}
    return ReferenceEvaluator(part).run(None, fed)[0].tolist()


def check(path: Path, output: Path) -> dict[str, object]:
    """Load a result, run it, and compute its lengths."""
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph

    told: dict[str, object] = {"bytes": size_of(path)}
    try:
        loaded = session(path)
    except (Fail, InvalidGraph) as error:
        return told | {"refused": str(error).splitlines()[0]}
    rng = np.random.default_rng(0)
    features = rng.standard_normal((1, 128, SECONDS * 100)).astype(np.float32)
    fed = {"audio_signal": features, "length": np.array([SECONDS * 100])}
    np.save(output, loaded.run(["outputs"], fed)[0])
    told["optimised"] = lengths(loaded)
    del loaded
    told["as written"] = lengths(session(path, as_written=True))
    told["real float16"] = lengths_in_float16(path)
    return told


def child(*arguments: str) -> tuple[dict[str, object], float, float]:
    """Run a step in a process of its own: (what it told, seconds, peak MiB)."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, __file__, "--step", *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.stdout.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(arguments)}: exit code {process.returncode}")
    return json.loads(text.splitlines()[-1]), time.perf_counter() - began, usage.ru_maxrss / 1024


def step(name: str, *paths: str) -> None:
    """What a child does."""
    places = [Path(path) for path in paths]
    told: object
    if name == "check":
        told = check(*places)
    else:
        began = time.perf_counter()
        try:
            what = WAYS[name](*places)
        except ModelError as error:
            what = f"refused: {error}"
        told = {"told": what, "seconds": time.perf_counter() - began}
    print(json.dumps(told))


class Comparison:
    """Runs one way after the other and collects the rows."""

    def __init__(self, model: Path, work: Path) -> None:
        self.source, self.work = model / "encoder-model.onnx", work
        self.right, _, _ = child("check", str(self.source), str(work / "right.npy"))
        self.wanted = np.load(work / "right.npy")
        self.rows: list[str] = []
        self.notes: list[str] = []

    def way(self, title: str, name: str, source: Path, target: Path) -> None:
        """Convert and check; adds a row."""
        print(f"{title} ...", file=sys.stderr)
        done, _, peak = child(name, str(source), str(target))
        if done["told"]:
            self.notes.append(f"{title}: {done['told']}")
        output = self.work / "output.npy"
        told, _, _ = child("check", str(target), str(output))
        refused = told.get("refused")
        error = "-"
        if refused:
            self.notes.append(f"{title}: {refused}")
        else:
            got = np.load(output)
            error = f"{np.linalg.norm(got - self.wanted) / np.linalg.norm(self.wanted):.2%}"
        wrong = [self.wrong(told, kind) for kind in ("optimised", "as written", "real float16")]
        cells = [title, "no" if refused else "yes", *wrong, error]
        cells += [f"{told['bytes']:,}", f"{done['seconds']:.1f}", f"{peak:,.0f}"]
        self.rows.append(f"| {' | '.join(cells)} |")

    def wrong(self, told: dict[str, object], kind: str) -> str:
        """How many lengths are wrong: of the twelve, of the many."""
        if kind not in told:
            return "-"
        got, want = told[kind], self.right["as written"]
        differ = np.array(got) != np.array(want)
        return f"{differ[: len(TWELVE)].sum()}, {differ[len(TWELVE) :].sum()}"

    def table(self) -> str:
        """The whole as Markdown."""
        head = (
            f"| encoder | loads | wrong lengths of {len(TWELVE)}, of {len(MANY)}: optimised "
            f"| as written | real float16 | error at {SECONDS} s | bytes | seconds | peak MiB |"
        )
        return "\n".join([head, "|---|---|---|---|---|---|---|---|---|", *self.rows])


def compare(model: Path, work: Path) -> tuple[str, str]:
    """All ways: (the table, notes)."""
    comparison = Comparison(model, work)
    target, fixed = work / "theirs.onnx", work / "fixed.onnx"
    titles = {
        "usual": "usual recipe",
        "blanket": "usual recipe, all Casts rewritten",
        "runtime": "ONNX Runtime's converter",
    }
    for name, title in titles.items():
        comparison.way(title, name, comparison.source, target)
        comparison.way(f"{title}, then our `fix`", "fix", target, fixed)
        target.unlink()
        fixed.unlink()
    comparison.way("**ours**", "ours", comparison.source, target)
    comparison.way("ours, then our `fix`", "fix", target, fixed)
    return comparison.table(), "\n".join(f"- {note}" for note in comparison.notes)


def main() -> None:
    """Compare and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, nargs="?", default=DIGITS_MODEL, help=MODEL_HELP)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            step(*args.step)
        return
    if args.work:
        args.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        table, notes = compare(args.model, Path(work))
    print(f"{table}\n\n{notes}")
    if args.output:
        args.output.write_text(f"{table}\n\n{notes}\n", "utf-8")


if __name__ == "__main__":
    main()
