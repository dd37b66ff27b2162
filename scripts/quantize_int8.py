"""Write INT8 files beside the FP32 ones of a model folder, and tell what was done and the sizes.

usage: python scripts/quantize_int8.py [-v] [--input-dir models/parakeet] [--calibration FILE.npz]
       python scripts/quantize_int8.py --collect AUDIO_DIR --calibration FILE.npz [--seconds S]

The second form makes a calibration set from any folder of recordings or from a LibriSpeech tree.
With one, the error of the INT8 encoder against FP32 is measured on its clips.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from onnx_asr.preprocessors.numpy_preprocessor import NemoPreprocessorNumpy

from stt.convert.calibration import Clip, collect, load
from stt.convert.int8 import quantize
from stt.errors import ModelError, SttError, UsageError
from stt.models.whisper_features import log_mel
from stt.types import SAMPLE_RATE

STEMS = ("encoder-model", "decoder_joint-model", "encoder_model", "decoder_model_merged")
CLIPS = 8


def report_progress(stage: str, done: int, total: int) -> None:
    """One line that overwrites itself."""
    print(f"\r  {stage} {done / 1e6:,.0f} of {total / 1e6:,.0f} MB ", end="", file=sys.stderr)


def encoder_feeds(mels: int, samples: np.ndarray) -> dict[str, np.ndarray]:
    """Input of an encoder: NeMo's features, or Whisper's where it has 80 of them."""
    if mels == 80:
        padded = np.pad(samples[: 30 * SAMPLE_RATE], (0, max(0, 30 * SAMPLE_RATE - len(samples))))
        return {"input_features": log_mel(padded)[None, :, :3000]}
    features = NemoPreprocessorNumpy(f"nemo{mels}")
    signal, frames = features(samples[None], np.array([len(samples)], np.int64))
    return {"audio_signal": signal.astype(np.float32), "length": frames.astype(np.int64)}


def encode(path: Path, clips: list[Clip]) -> list[np.ndarray]:
    """Encoder outputs of clips, without frames of padding."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    mels = session.get_inputs()[0].shape[1]
    outputs = [session.run(None, encoder_feeds(mels, clip.samples)) for clip in clips]
    return [found[0][..., : found[1][0]] if len(found) > 1 else found[0] for found in outputs]


def encoder_error(folder: Path, calibration: Path) -> float:
    """Relative L2 error of the INT8 encoder's output over the first clips of a set."""
    clips = load(calibration)[:CLIPS]
    encoder = present(folder)[0]
    exact = encode(folder / f"{encoder}.onnx", clips)
    ours = encode(folder / f"{encoder}.int8.onnx", clips)
    wrong = sum(float(np.square(a - b).sum()) for a, b in zip(exact, ours, strict=True))
    return (wrong / sum(float(np.square(a).sum()) for a in exact)) ** 0.5


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
        told = report_progress if verbose else None
        report = quantize(folder / f"{stem}.onnx", folder / target, keep=keep, progress=told)
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
    """Collect, or quantise and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--input-dir", type=Path, default=Path("models/parakeet"), help="default models/parakeet"
    )
    parser.add_argument(
        "--calibration", type=Path, metavar="FILE.npz", help="clips to measure the error on"
    )
    parser.add_argument(
        "--collect", type=Path, metavar="AUDIO_DIR", help="make --calibration from these recordings"
    )
    parser.add_argument("--seconds", type=float, default=600, help="of --collect; default 600")
    parser.add_argument("--keep", nargs="*", default=[], metavar="NODE", help="leave these in FP32")
    parser.add_argument("-v", "--verbose", action="store_true")
    args = parser.parse_args()
    if args.collect and not args.calibration:
        parser.error("--collect needs --calibration FILE.npz to save to")
    try:
        if args.collect:
            clips = collect(args.collect, args.calibration, seconds=args.seconds)
            told = sum(clip.text is not None for clip in clips)
            total = sum(clip.seconds for clip in clips)
            print(f"{args.calibration}: {len(clips)} clips, {total:.0f} s, {told} with text")
            return
        quantize_folder(args.input_dir, args.keep, args.verbose)
        if args.calibration:
            error = encoder_error(args.input_dir, args.calibration)
            print(f"encoder: relative error {error:.1%} against FP32 on {args.calibration}")
    except (SttError, OSError) as error:
        sys.exit(f"quantize_int8: {error}")


if __name__ == "__main__":
    main()
