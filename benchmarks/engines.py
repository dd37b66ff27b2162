"""The starter beside CTranslate2 with the same weights; a model's files as sherpa-onnx reads them.

usage: python benchmarks/engines.py ctranslate2 [AUDIO_DIR] [--all] [--threads N]
       python benchmarks/engines.py sherpa-onnx MODEL_DIR OUT_DIR [--precision fp32]

ctranslate2  Both decode greedily in float32, from the same features. AUDIO_DIR, by default
             samples/, is a folder as `scripts/recordings.py` reads it. Recordings over 30 s are cut
             at their quietest places. Printed: utterances, the share with identical text, and the
             word error rate of both, after Whisper's normaliser. Exit code 1: under 95 % identical,
             or word error rates more than 0.3 apart. Needs the dependency group `evaluate`.
sherpa-onnx  Writes a TDT model's encoder, prediction network, joint and tokens to OUT_DIR, for
             `stt bench -m MODEL_DIR --against sherpa-onnx=OUT_DIR`: the same weights, laid out as
             sherpa-onnx wants them. It names the encoder's properties in its metadata and passes
             the prediction network's output on as [B, width, U].
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx

from stt.convert.model_file import read as read_graph
from stt.convert.model_file import write
from stt.errors import ModelError
from stt.install.starter import ensure_starter, installed_weights
from stt.models import FAMILIES
from stt.models.whisper import split_pieces, transcribe
from stt.models.whisper_decoding import Rules, Said, load_vocabulary
from stt.models.whisper_session import WINDOW_SECONDS, OrtWhisper, log_mel
from stt.types import SAMPLE_RATE, Samples

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
from recordings import AUDIO_HELP, SAMPLES, group, in_set, read, rows, word_error_rate

ENCODER, DECODER, JOINER, TOKENS = "encoder.onnx", "decoder.onnx", "joiner.onnx", "tokens.txt"
_KIND = "nemo-conformer-tdt"
_STATES = ("input_states_1", "input_states_2")
BATCH = 8
HOP = 160  # samples over which loudness is taken when looking for a place to cut


def cut(samples: Samples) -> Iterator[Samples]:
    """Pieces of at most 30 s, cut at the quietest 0.3 s between 18 and 30 s."""
    energy = np.add.reduceat(samples**2, np.arange(0, len(samples), HOP))
    smooth = np.convolve(energy, np.ones(30), mode="same")
    start, longest = 0, WINDOW_SECONDS * SAMPLE_RATE
    while len(samples) - start > longest:
        first, last = (start + longest * 3 // 5) // HOP, (start + longest) // HOP
        end = (first + int(np.argmin(smooth[first:last]))) * HOP
        yield samples[start:end]
        start = end
    yield samples[start:]


def run_starter(
    folder: Path, utterances: Sequence[Samples], threads: int
) -> tuple[list[str], float]:
    """The texts by the starter, and the seconds it took."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    encoder, decoder = (
        onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])
        for name in ("encoder_model.onnx", "decoder_model_merged.onnx")
    )
    rules = Rules(load_vocabulary(folder), timestamps=False)
    begin = time.perf_counter()
    results = transcribe(utterances, OrtWhisper(encoder, decoder).start, rules, batch=BATCH)
    return [result.text for result in results], time.perf_counter() - begin


def run_ctranslate2(
    folder: Path, utterances: Sequence[Samples], threads: int
) -> tuple[list[str], float]:
    """The texts by CTranslate2, and the seconds it took."""
    import ctranslate2

    model = ctranslate2.models.Whisper(
        str(installed_weights()), device="cpu", compute_type="float32", intra_threads=threads
    )
    rules = Rules(load_vocabulary(folder), timestamps=False)
    prompt = [rules.vocabulary.start, rules.vocabulary.no_timestamps]
    texts: list[str] = []
    begin = time.perf_counter()
    for first in range(0, len(utterances), BATCH):
        now = utterances[first : first + BATCH]
        features = np.ascontiguousarray(np.stack([log_mel(samples) for samples in now]))
        view = ctranslate2.StorageView.from_array(features)
        results = model.generate(view, [prompt] * len(now), beam_size=1)
        for samples, result in zip(now, results, strict=True):
            tokens = result.sequences_ids[0]
            said = Said("en", 0.0, tokens, [0.0] * len(tokens))
            pieces, _ = split_pieces(said, rules, len(samples) / SAMPLE_RATE)
            texts.append(" ".join(piece.text for piece in pieces).strip())
    return texts, time.perf_counter() - begin


def joined(recordings: Sequence[tuple[str, list[Samples]]], texts: list[str]) -> Iterator[str]:
    """The texts of each recording's utterances put together."""
    remaining = iter(texts)
    for _, utterances in recordings:
        yield " ".join(next(remaining) for _ in utterances)


def compare(audio: Path, everything: bool, threads: int) -> int:
    """Print how both did; 0 when the comparison holds, 1 when it does not."""
    recordings = [
        (row["text"], list(cut(read(audio / row["path"]))))
        for row in rows(audio)
        if row["lang"] == "en" and (everything or in_set(row, "librispeech-test"))
    ]
    utterances = [one for _, pieces in recordings for one in pieces]
    if not utterances:
        sys.exit(f"{audio}: no English recordings in it; --all takes every set")
    with tempfile.TemporaryDirectory() as temporary:
        folder = ensure_starter(Path(temporary))
        ours, our_time = run_starter(folder, utterances, threads)
        theirs, their_time = run_ctranslate2(folder, utterances, threads)
    same = np.mean([a == b for a, b in zip(ours, theirs, strict=True)])
    references = [text for text, _ in recordings]
    our_rate, their_rate = (
        word_error_rate(references, list(joined(recordings, texts))) for texts in (ours, theirs)
    )
    seconds = sum(map(len, utterances)) / SAMPLE_RATE
    print(f"utterances       {len(utterances)}, {seconds:.0f} s")
    print(f"identical text   {same:.1%}")
    print(f"starter          WER {our_rate:.2f} %, {seconds / our_time:.1f} x real time")
    print(f"CTranslate2      WER {their_rate:.2f} %, {seconds / their_time:.1f} x real time")
    return 0 if same >= 0.95 and abs(our_rate - their_rate) <= 0.3 else 1


def export(folder: Path, precision: str, target: Path) -> None:
    """Write one precision of a TDT model to a folder as sherpa-onnx reads it.

    Raises:
        ModelError: another kind of model, or its graph is not one that can be cut.
    """
    config = json.loads((folder / "config.json").read_text("utf-8"))
    if config.get("model_type") != _KIND:
        raise ModelError(f"{folder}: sherpa-onnx is compared on {_KIND} models only")
    target.mkdir(parents=True, exist_ok=True)
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
    file = read_graph(folder / encoder)
    for key, value in metadata.items():
        file.model.metadata_props.add(key=key, value=str(value))
    write(target / ENCODER, file.model, file.weights.values())
    _halves(joint, target)
    shutil.copyfile(folder / "vocab.txt", target / TOKENS)


def _halves(model: onnx.ModelProto, target: Path) -> None:
    """Write the two halves of a decoder_joint graph."""
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


def _border(model: onnx.ModelProto) -> str:
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


def main() -> int:
    """Parse the command line and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("ctranslate2", "sherpa-onnx"), nargs="?")
    parser.add_argument("folder", type=Path, nargs="?", default=SAMPLES, help=AUDIO_HELP)
    parser.add_argument("out", type=Path, nargs="?", help="of sherpa-onnx")
    parser.add_argument("--precision", default="fp32", help="of sherpa-onnx; default: fp32")
    parser.add_argument("--all", action="store_true", help="every set that is English")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if args.what == "sherpa-onnx":
        if args.out is None:
            parser.error("sherpa-onnx: give MODEL_DIR and OUT_DIR")
        try:
            export(args.folder, args.precision, args.out)
        except ModelError as error:
            sys.exit(str(error))
        return 0
    with group("evaluate"):
        import ctranslate2  # noqa: F401 - before anything is measured
        import jiwer  # noqa: F401
        import whisper_normalizer  # noqa: F401
    return compare(args.folder, args.all, args.threads)


if __name__ == "__main__":
    sys.exit(main())
