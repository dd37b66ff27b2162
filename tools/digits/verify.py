"""Check an exported model against the published Parakeet's graph contract and against NeMo.

Prints what it measures and fails where a rule is broken: names, ranks and types of the graphs'
inputs and outputs; features of onnx-asr against NeMo's; encoder outputs of ONNX Runtime against
PyTorch's; rows of a padded batch against single runs; the longest audio.

    python verify.py --trained DIR --model DIR --clips DIR
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import onnx_asr
import onnxruntime
import soundfile
import torch
from export import load_trained
from model import MEL_BINS, PREDICTION_LAYERS, PREDICTION_WIDTH, SUBSAMPLING, WIDTH
from nemo.collections.asr.models import EncDecRNNTBPEModel
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors
from score import read_references

# Name: type, rank, and the dimensions that are fixed (position: size).
ENCODER_CONTRACT = {
    "audio_signal": ("tensor(float)", 3, {1: MEL_BINS}),
    "length": ("tensor(int64)", 1, {}),
    "outputs": ("tensor(float)", 3, {1: WIDTH}),
    "encoded_lengths": ("tensor(int64)", 1, {}),
}
STATE = ("tensor(float)", 3, {0: PREDICTION_LAYERS, 2: PREDICTION_WIDTH})
DECODER_CONTRACT = {
    "encoder_outputs": ("tensor(float)", 3, {1: WIDTH}),
    "targets": ("tensor(int32)", 2, {}),
    "target_length": ("tensor(int32)", 1, {}),
    "input_states_1": STATE,
    "input_states_2": STATE,
    "outputs": ("tensor(float)", 4, {}),
    "prednet_lengths": ("tensor(int32)", 1, {}),
    "output_states_1": STATE,
    "output_states_2": STATE,
}

TOLERANCE = 2e-3
SAMPLE_RATE = 16_000


def require(condition: bool, message: str) -> None:
    """Stop with a message where a rule is broken."""
    if not condition:
        raise SystemExit(f"FAILED: {message}")


def open_graph(path: Path) -> onnxruntime.InferenceSession:
    """Load a graph on the CPU."""
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def check_contract(
    session: onnxruntime.InferenceSession, contract: dict[str, tuple[str, int, dict[int, int]]]
) -> None:
    """Compare names, types, ranks and fixed sizes; all other axes must be dynamic."""
    found = {value.name: value for value in [*session.get_inputs(), *session.get_outputs()]}
    require(list(found) == list(contract), f"inputs and outputs are {list(found)}")
    for name, (kind, rank, fixed) in contract.items():
        value = found[name]
        require(value.type == kind, f"{name} is {value.type}, not {kind}")
        require(len(value.shape) == rank, f"{name} has shape {value.shape}")
        for axis, size in fixed.items():
            require(value.shape[axis] == size, f"{name} has shape {value.shape}")
    for value in session.get_inputs():
        fixed = contract[value.name][2]
        free = [size for axis, size in enumerate(value.shape) if axis not in fixed]
        require(
            all(isinstance(size, str) for size in free), f"{value.name} is fixed: {value.shape}"
        )


def pad(clips: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Pad clips to one [batch, samples] array; returns it and the lengths (int64)."""
    lengths = np.array([len(clip) for clip in clips], dtype=np.int64)
    audio = np.zeros((len(clips), lengths.max()), dtype=np.float32)
    for row, clip in zip(audio, clips, strict=True):
        row[: len(clip)] = clip
    return audio, lengths


def feature_difference(
    recogniser: object, model: EncDecRNNTBPEModel, clips: list[np.ndarray]
) -> float:
    """Mean absolute difference of onnx-asr's features from NeMo's, both of unit variance."""
    differences = []
    for clip in clips:
        ours, sizes = recogniser.asr._preprocessor(*pad([clip]))
        with torch.no_grad():
            theirs, _ = model.preprocessor(
                input_signal=torch.from_numpy(clip)[None], length=torch.tensor([len(clip)])
            )
        differences.append(np.abs(ours[0, :, : sizes[0]] - theirs[0, :, : sizes[0]].numpy()).mean())
    return float(np.mean(differences))


def encode(
    session: onnxruntime.InferenceSession, features: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Run the encoder graph."""
    feeds = {"audio_signal": features, "length": lengths}
    return tuple(session.run(["outputs", "encoded_lengths"], feeds))


def torch_difference(
    session: onnxruntime.InferenceSession, model: EncDecRNNTBPEModel, features: np.ndarray
) -> float:
    """Largest absolute difference of the encoder graph from the PyTorch encoder."""
    lengths = np.array([features.shape[2]], dtype=np.int64)
    ours, _ = encode(session, features, lengths)
    with torch.no_grad():
        theirs, _ = model.encoder(
            audio_signal=torch.from_numpy(features), length=torch.from_numpy(lengths)
        )
    return float(np.abs(ours - theirs.numpy()).max())


def batch_difference(
    session: onnxruntime.InferenceSession, recogniser: object, clips: list[np.ndarray]
) -> float:
    """Largest absolute difference of the rows of a padded batch from the single runs."""
    features, lengths = recogniser.asr._preprocessor(*pad(clips))
    together, sizes = encode(session, features, lengths)
    worst = 0.0
    for row, clip in enumerate(clips):
        alone, alone_sizes = encode(session, *recogniser.asr._preprocessor(*pad([clip])))
        require(
            sizes[row] == alone_sizes[0], f"row {row}: {sizes[row]} and {alone_sizes[0]} frames"
        )
        valid = slice(0, int(sizes[row]))
        worst = max(worst, float(np.abs(together[row, :, valid] - alone[0, :, valid]).max()))
    return worst


def takes_audio_of(session: onnxruntime.InferenceSession, duration_s: float) -> bool:
    """Whether the encoder runs on this much audio."""
    frames = round(duration_s * 100)
    features = np.zeros((1, MEL_BINS, frames), dtype=np.float32)
    try:
        _, sizes = encode(session, features, np.array([frames], dtype=np.int64))
    except (runtime_errors.Fail, runtime_errors.RuntimeException):
        return False
    return int(sizes[0]) == -(-frames // SUBSAMPLING)


def main() -> None:
    """Run all checks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trained", type=Path, required=True, help="output folder of train.py")
    parser.add_argument("--model", type=Path, required=True, help="folder of the exported model")
    parser.add_argument("--clips", type=Path, required=True, help="folder with references.tsv")
    arguments = parser.parse_args()
    model = load_trained(arguments.trained)
    recogniser = onnx_asr.load_model("nemo-conformer-tdt", arguments.model)
    encoder = open_graph(arguments.model / "encoder-model.onnx")
    check_contract(encoder, ENCODER_CONTRACT)
    check_contract(open_graph(arguments.model / "decoder_joint-model.onnx"), DECODER_CONTRACT)
    print("graph contract: holds")
    paths = [path for path, _, _ in read_references(arguments.clips)]
    clips = [soundfile.read(path, dtype="float32")[0] for path in paths]
    print(f"features, mean difference: {feature_difference(recogniser, model, clips):.2e}")
    features, _ = recogniser.asr._preprocessor(*pad(clips[:1]))
    difference = torch_difference(encoder, model, features)
    print(f"encoder, ONNX Runtime against PyTorch: {difference:.2e}")
    require(difference < TOLERANCE, "the exported encoder differs from the trained one")
    three = sorted(clips, key=len)[:: max(1, len(clips) // 3)][:3]
    difference = batch_difference(encoder, recogniser, three)
    print(f"batch of {[len(clip) for clip in three]} samples against single runs: {difference:.2e}")
    require(difference < TOLERANCE, "rows of a padded batch differ from single runs")
    limit = json.loads((arguments.model / "config.json").read_text())["max_audio_s"]
    require(takes_audio_of(encoder, limit), f"fails on {limit} s")
    # One second of the two is within the rounding of `max_audio_s` to whole seconds.
    require(not takes_audio_of(encoder, limit + 2), f"{limit} s is not the limit")
    print(f"takes {limit} s, and not {limit + 2} s")


if __name__ == "__main__":
    main()
