"""Convert the FP32 graphs of a model folder to FP16, beside them.

usage: convert_to_fp16.py [-v] [--input-dir models/parakeet]

Each `NAME.onnx` becomes `NAME.fp16.onnx`, which appears when it is whole; run it again whenever it
was interrupted. `stt` uses the result unasked only after `stt setup` has proven it.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from stt.convert.fp16 import convert
from stt.errors import SttError
from stt.models import inspect


def main() -> int:
    """Convert, and tell what was done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input-dir", type=Path, default=Path("models/parakeet"))
    parser.add_argument("-v", "--verbose", action="store_true", help="each change and why")
    options = parser.parse_args()
    family = inspect(options.input_dir).family
    pairs = zip(family.graphs("fp32"), family.graphs("fp16"), strict=True)
    written: list[Path] = []
    for source, target in pairs:
        began = time.perf_counter()
        try:
            done = convert(options.input_dir / source, options.input_dir / target)
        except SttError:  # the others without this one are no model
            for path in written:
                path.unlink()
            raise
        written.append(options.input_dir / target)
        print(
            f"{target}: {done.bytes_after:,} bytes of {done.bytes_before:,} in "
            f"{time.perf_counter() - began:.1f} s; {done.tally.values:,} weights, "
            f"{done.tally.clipped:,} clipped, {done.tally.raised:,} raised; "
            f"{len(done.kept)} nodes kept in FP32, {len(done.changes)} casts changed"
        )
        if options.verbose:
            for name in done.kept:
                print(f"  {name}: stays FP32, it counts")
            for change in done.changes:
                print(f"  {change.node} ({change.op}): {change.what}: {change.why}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (SttError, OSError) as error:
        sys.exit(f"convert_to_fp16: {error}")
