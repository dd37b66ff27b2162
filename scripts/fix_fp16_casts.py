"""Make the float types of a folder's FP16 graphs agree, whoever converted them.

usage: fix_fp16_casts.py [-v] [--input-dir models/parakeet]

Repairs `NAME.fp16.onnx` in place: the new file takes the old one's name when it is whole. A graph
without faults is left as it is, so running it twice, or after an interruption, does no harm. Where
one was changed, what set-up had proven of FP16, and made of it, is forgotten: `stt setup` does so
anew.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stt.convert.casts import fix
from stt.convert.element_types import conflicts
from stt.convert.model_file import read, write
from stt.engine.manifest import MANIFEST, Manifest
from stt.errors import SttError
from stt.models import inspect


def main() -> int:
    """Repair, and tell what was done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input-dir", type=Path, default=Path("models/parakeet"))
    parser.add_argument("-v", "--verbose", action="store_true", help="each change and why")
    options = parser.parse_args()
    names = inspect(options.input_dir).family.graphs("fp16")
    missing = [name for name in names if not (options.input_dir / name).exists()]
    if missing:
        sys.exit(
            f"fix_fp16_casts: {missing[0]} is missing; make it: "
            f"`scripts/convert_to_fp16.py --input-dir {options.input_dir}`"
        )
    changed = False
    for name in names:
        path = options.input_dir / name
        file = read(path)
        faults = conflicts(file)
        settled = fix(file)
        if settled.changes:
            changed = True
            write(path, settled.file.model, settled.file.weights.values())
        print(f"{name}: {len(faults)} nodes with two types, {len(settled.changes)} changes")
        if options.verbose:
            for fault in faults:
                print(f"  {fault.node} ({fault.op}): {fault.message}")
            for change in settled.changes:
                print(f"  {change.node} ({change.op}): {change.what}: {change.why}")
    if changed and (options.input_dir / MANIFEST).exists():
        manifest = Manifest.read(options.input_dir)
        manifest.forget("precisions", "fp16", names)
        manifest.save(options.input_dir)
        print("what was proven of fp16 is forgotten: run `stt setup` for this model again")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (SttError, OSError) as error:
        sys.exit(f"fix_fp16_casts: {error}")
