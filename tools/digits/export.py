"""Export a trained model with NeMo's exporter, in the file layout of the published Parakeet.

Writes `encoder-model.onnx` with its weights in `encoder-model.onnx.data`,
`decoder_joint-model.onnx` with its weights inside, `vocab.txt` and `config.json`.

    python export.py --trained DIR --out DIR
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import onnx
import torch
from model import MAX_FRAMES, MEL_BINS, SUBSAMPLING, build_model
from nemo.collections.asr.models import EncDecRNNTBPEModel

FRAME_S = 0.01


def max_audio_seconds() -> int:
    """Whole seconds of audio for which the stored position table suffices."""
    return int(MAX_FRAMES * SUBSAMPLING * FRAME_S)


def load_trained(folder: Path) -> EncDecRNNTBPEModel:
    """Load what train.py wrote, ready for inference."""
    model = build_model(folder / "tokenizer")
    model.load_state_dict(torch.load(folder / "state.pt", weights_only=True))
    return model.eval()


def export_graphs(model: EncDecRNNTBPEModel, out: Path) -> None:
    """Export both graphs and move the encoder's weights to their own file."""
    with tempfile.TemporaryDirectory() as scratch:
        model.export(str(Path(scratch) / "model.onnx"))
        encoder = onnx.load(Path(scratch) / "encoder-model.onnx")
        decoder_joint = onnx.load(Path(scratch) / "decoder_joint-model.onnx")
    data = out / "encoder-model.onnx.data"
    # The ONNX writer appends to an existing file.
    data.unlink(missing_ok=True)
    onnx.save_model(
        encoder, out / "encoder-model.onnx", save_as_external_data=True, location=data.name
    )
    onnx.save_model(decoder_joint, out / "decoder_joint-model.onnx")


def write_vocabulary(model: EncDecRNNTBPEModel, path: Path) -> None:
    """Write `piece id` lines, the blank last, as onnx-asr reads them."""
    pieces = [*model.tokenizer.vocab, "<blk>"]
    lines = [f"{piece} {index}" for index, piece in enumerate(pieces)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_config(path: Path) -> None:
    """Write onnx-asr's configuration and, for this project, the longest audio it can take."""
    config = {
        "model_type": "nemo-conformer-tdt",
        "features_size": MEL_BINS,
        "subsampling_factor": SUBSAMPLING,
        "max_audio_s": max_audio_seconds(),
    }
    path.write_text(json.dumps(config) + "\n", encoding="utf-8")


def main() -> None:
    """Export and print the sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trained", type=Path, required=True, help="output folder of train.py")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    model = load_trained(arguments.trained)
    export_graphs(model, arguments.out)
    write_vocabulary(model, arguments.out / "vocab.txt")
    write_config(arguments.out / "config.json")
    for path in sorted(arguments.out.glob("*.*")):
        print(f"{path.stat().st_size:>10,}  {path.name}")


if __name__ == "__main__":
    main()
