"""Write INT8 files beside the FP32 ones of a model folder, and tell what was done and the sizes.

usage: python scripts/quantize_int8.py [-v] [--input-dir models/parakeet] [--keep NODE ...]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stt.convert.int8 import quantize
from stt.errors import ModelError, SttError, UsageError

STEMS = ("encoder-model", "decoder_joint-model", "encoder_model", "decoder_model_merged")


def report_progress(stage: str, done: int, total: int) -> None:
    """One line that overwrites itself."""
    print(f"\r  {stage} {done / 1e6:,.0f} of {total / 1e6:,.0f} MB ", end="", file=sys.stderr)


def present(folder: Path) -> list[str]:
    """The FP32 files of a folder, without their suffix, the encoder first."""
    found = [stem for stem in STEMS if (folder / f"{stem}.onnx").is_file()]
    if len(found) != 2:
        raise ModelError(f"{folder}: no FP32 encoder and decoder; run `stt setup` or name another")
    return found


def quantize_folder(folder: Path, keep: list[str], verbose: bool) -> None:
    """Quantise both files of a folder and print a line on each."""
    kept: list[str] = []
    for stem in present(folder):
        target = f"{stem}.int8.onnx"
        progress = report_progress if verbose else lambda *_: None
        report = quantize(folder / f"{stem}.onnx", folder / target, keep=keep, progress=progress)
        share = report.bytes_after / report.bytes_before
        print(
            f"\r{target}: {report.bytes_after / 1e6:,.1f} MB, {share:.1%} of FP32; "
            f"{report.products} products ({report.convolutions} were convolutions), "
            f"{report.lstms} LSTMs, {report.embeddings} embeddings, "
            f"{report.attentions} attentions rewritten, {report.smoothed} norms smoothed, "
            f"{len(report.kept)} products kept"
        )
        kept += report.kept
    for name in keep:
        if not any(f"{node}/".startswith(f"{name.rstrip('/')}/") for node in kept):
            raise UsageError(f"--keep {name}: no product has this name; written without it")


def main() -> None:
    """Quantise a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--input-dir", type=Path, default=Path("models/parakeet"), help="default models/parakeet"
    )
    parser.add_argument("--keep", nargs="*", default=[], metavar="NODE", help="leave these in FP32")
    parser.add_argument("-v", "--verbose", action="store_true")
    args = parser.parse_args()
    try:
        quantize_folder(args.input_dir, args.keep, args.verbose)
    except (SttError, OSError) as error:
        sys.exit(f"quantize_int8: {error}")


if __name__ == "__main__":
    main()
