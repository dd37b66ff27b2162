"""A NeMo transducer in the layout that sherpa-onnx reads, for comparison: the same weights.

sherpa-onnx wants prediction network and joint apart, names the encoder's properties in its
metadata, and passes the prediction network's output on as [B, width, U].
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from stt.convert.model_file import read, write
from stt.errors import ModelError
from stt.models import FAMILIES

if TYPE_CHECKING:
    from onnx import ModelProto

ENCODER, DECODER, JOINER, TOKENS = "encoder.onnx", "decoder.onnx", "joiner.onnx", "tokens.txt"
_KIND = "nemo-conformer-tdt"
_STATES = ("input_states_1", "input_states_2")


def export(folder: Path, precision: str, target: Path) -> None:
    """Write one precision of a TDT model to the existing folder `target`.

    Raises:
        ModelError: another kind of model, or its graph is not one that can be cut.
    """
    import onnx

    config = json.loads((folder / "config.json").read_text("utf-8"))
    if config.get("model_type") != _KIND:
        raise ModelError(f"{folder}: sherpa-onnx is compared on {_KIND} models only")
    encoder, decoder_joint = FAMILIES[_KIND].graphs(precision)
    joint = onnx.load(folder / decoder_joint)
    lines = (folder / "vocab.txt").read_text("utf-8").splitlines()
    states = next(i for i in joint.graph.input if i.name == _STATES[0]).type.tensor_type.shape
    metadata = {
        "model_type": "EncDecRNNTBPEModel",
        "vocab_size": len(lines) - 1,  # without the blank
        "subsampling_factor": config.get("subsampling_factor", 8),
        "normalize_type": "per_feature",
        "feat_dim": config.get("features_size", 80),
        "url": "parakeet-tdt",  # sherpa-onnx knows durations by these three letters
        "pred_rnn_layers": states.dim[0].dim_value,
        "pred_hidden": states.dim[2].dim_value,
    }
    file = read(folder / encoder)
    for key, value in metadata.items():
        file.model.metadata_props.add(key=key, value=str(value))
    write(target / ENCODER, file.model, file.weights.values())
    _cut(joint, target)
    shutil.copyfile(folder / "vocab.txt", target / TOKENS)


def _cut(model: ModelProto, target: Path) -> None:
    """Write the two halves of a decoder_joint graph."""
    import onnx
    from onnx.helper import make_node, make_tensor_value_info
    from onnx.utils import Extractor

    border = _border(model)
    size = "prediction"
    across = make_tensor_value_info(border, onnx.TensorProto.FLOAT, ["B", "U", size])
    turned = make_tensor_value_info("decoder_outputs", onnx.TensorProto.FLOAT, ["B", size, "U"])
    model.graph.value_info.append(across)
    extractor = Extractor(model)
    after = ["output_states_1", "output_states_2"]
    decoder = extractor.extract_model(
        ["targets", "target_length", *_STATES], [border, "prednet_lengths", *after]
    )
    decoder.graph.node.append(make_node("Transpose", [border], ["decoder_outputs"], perm=[0, 2, 1]))
    decoder.graph.output[0].CopyFrom(turned)
    joiner = extractor.extract_model(["encoder_outputs", border], ["outputs"])
    joiner.graph.node.insert(
        0, make_node("Transpose", ["decoder_outputs"], [border], perm=[0, 2, 1])
    )
    joiner.graph.input[1].CopyFrom(turned)
    onnx.save(decoder, target / DECODER)
    onnx.save(joiner, target / JOINER)


def _border(model: ModelProto) -> str:
    """Return the last value of the prediction network, [B, U, width].

    Where its half and the encoder's meet, each has been given an axis for the other.
    """
    heard, said = {"encoder_outputs"}, {"targets"}
    meeting = None
    for node in model.graph.node:
        for side in (heard, said):
            if side.intersection(node.input):
                side.update(node.output)
        if heard.intersection(node.output) and said.intersection(node.output):
            meeting = node
            break
    met = said.intersection(meeting.input if meeting else ())
    for node in model.graph.node:
        if node.op_type == "Unsqueeze" and met.intersection(node.output):
            return str(node.input[0])
    raise ModelError("the decoder_joint graph has no place to cut it for sherpa-onnx")
