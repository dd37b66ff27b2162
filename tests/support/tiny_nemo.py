"""A plain transducer (RNN-T) and a CTC model of a few kB, in the layout of NeMo's exports.

What they say depends on the audio, on the token before and, for the transducer, on its state, so
that two decodings of some noise agree only if they do the same: the logits of a frame are its first
mel bands, one per token and the last for the blank.
"""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import onnx.parser

_SHARED = """
<int64[1] zero = {0}, int64[1] four = {4}, int64[1] band = {1}, int64[1] time = {2},
 int64[1] far = {1000000}, int64[1] eight = {8}, int64[1] seven = {7}, float[1] loud = {2.0}>
{
    bands = Slice(audio_signal, zero, four, band)
    every = Slice(bands, zero, far, time, eight)
    scores = Mul(every, loud)
"""
_ENCODER = (
    """
<ir_version: 8, opset_import: ["" : 17]>
encoder (float[B, 80, T] audio_signal, int64[B] length)
    => (float[B, 4, S] outputs, int64[B] encoded_lengths)
"""
    + _SHARED
    + """
    outputs = Identity(scores)
    rounded = Add(length, seven)
    encoded_lengths = Div(rounded, eight)
}
"""
)
_CTC = (
    """
<ir_version: 8, opset_import: ["" : 17]>
ctc (float[B, 80, T] audio_signal, int64[B] length) => (float[B, S, 4] logprobs)
"""
    + _SHARED
    + """
    rows = Transpose <perm = [0, 2, 1]> (scores)
    logprobs = LogSoftmax <axis = -1> (rows)
}
"""
)
_JOINT = """
<ir_version: 8, opset_import: ["" : 17]>
joint (float[B, 4, T] encoder_outputs, int32[B, U] targets, int32[B] target_length,
       float[1, B, 4] input_states_1, float[1, B, 4] input_states_2)
    => (float[B, T, U, 4] outputs, int32[B] prednet_lengths,
        float[1, B, 4] output_states_1, float[1, B, 4] output_states_2)
<float[4, 4] embedding = {-1,0.5,0,1, 0,-1,0.5,1, 0.5,0,-1,1, 0,0,0,0}, float[1] fades = {0.5},
 int64[1] second = {1}>
{
    embedded = Gather(embedding, targets)
    faded = Mul(input_states_1, fades)
    output_states_1 = Add(faded, embedded)
    output_states_2 = Identity(input_states_2)
    frames = Transpose <perm = [0, 2, 1]> (encoder_outputs)
    summed = Add(frames, output_states_1)
    outputs = Unsqueeze(summed, second)
    prednet_lengths = Identity(target_length)
}
"""
_GRAPHS = {
    "nemo-conformer-rnnt": {"encoder-model": _ENCODER, "decoder_joint-model": _JOINT},
    "nemo-conformer-ctc": {"model": _CTC},
}


def build(folder: Path, kind: str) -> Path:
    """Write a model of that kind to a new folder and return it."""
    folder.mkdir(parents=True)
    for name, text in _GRAPHS[kind].items():
        onnx.save(onnx.parser.parse_model(text), folder / f"{name}.onnx")
    (folder / "vocab.txt").write_text("▁ba 0\n▁du 1\nla 2\n<blk> 3\n", "utf-8")
    config = {"model_type": kind, "features_size": 80, "subsampling_factor": 8}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder
