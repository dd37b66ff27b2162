"""A transducer of 3 kB in Parakeet's layout that says "go" every 0.32 s, whatever it hears.

Enough to run the real loader, the real command and the real files end to end in tests that are not
about what is recognised.
"""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import onnx.parser

_ENCODER = """
<ir_version: 8, opset_import: ["" : 17]>
encoder (float[B, 128, T] audio_signal, int64[B] length)
    => (float[B, 4, S] outputs, int64[B] encoded_lengths)
<int64[1] zero = {0}, int64[1] four = {4}, int64[1] band = {1}, int64[1] time = {2},
 int64[1] far = {1000000}, int64[1] eight = {8}, int64[1] seven = {7}>
{
    bands = Slice(audio_signal, zero, four, band)
    outputs = Slice(bands, zero, far, time, eight)
    rounded = Add(length, seven)
    encoded_lengths = Div(rounded, eight)
}
"""
_COLLAPSING = _ENCODER.replace("{7}>", "{7}, float[1] minus = {-1}>").replace(
    "outputs = Slice(bands, zero, far, time, eight)",
    """real = Slice(bands, zero, far, time, eight)
    nan = Sqrt(minus)
    outputs = Add(real, nan)""",
)
"""The same, but all it gives is NaN."""
_DECODER = """
<ir_version: 8, opset_import: ["" : 17]>
decoder (float[B, 4, T] encoder_outputs, int32[B, U] targets, int32[B] target_length,
         float[1, B, 2] input_states_1, float[1, B, 2] input_states_2)
    => (float[1, 1, 1, 7] outputs, int32[B] prednet_lengths,
        float[1, B, 2] output_states_1, float[1, B, 2] output_states_2)
<float[1, 1, 1, 7] logits = {5, 0, 0, 0, 0, 0, 5}>
{
    outputs = Identity(logits)
    prednet_lengths = Identity(target_length)
    output_states_1 = Identity(input_states_1)
    output_states_2 = Identity(input_states_2)
}
"""


def build(folder: Path) -> Path:
    """Write the model to a new folder and return it."""
    folder.mkdir(parents=True)
    _write(folder, _ENCODER, "")
    (folder / "vocab.txt").write_text("▁go 0\n<blk> 1\n", "utf-8")
    config = {"model_type": "nemo-conformer-tdt", "features_size": 128, "subsampling_factor": 8}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


def add_collapsing(folder: Path, precision: str = "fp16", *, proven: bool = True) -> None:
    """Add a precision whose encoder gives NaN, and the proof set-up would have written of it."""
    _write(folder, _COLLAPSING, f".{precision}")
    entry = {"proven": proven, "why": "same words on 4 of 4 clips"}
    manifest = {"files": {}, "precisions": {precision: entry}}
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")


def _write(folder: Path, encoder: str, precision: str) -> None:
    for name, text in (("encoder-model", encoder), ("decoder_joint-model", _DECODER)):
        onnx.save(onnx.parser.parse_model(text), folder / f"{name}{precision}.onnx")
