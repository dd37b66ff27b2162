"""Long recordings: stt beside onnx-asr with its own VAD, on the same model and machine, in turn.

usage: python scripts/compare_longform.py [AUDIO_DIR [MODEL_DIR [VAD_DIR]]]
                                          [--noise DIR] [--snr DB ...] [--only NAME ...]

AUDIO_DIR, by default samples/, is a folder as `recordings.py` reads it; MODEL_DIR, by default the
starter, a model in onnx-asr's layout; VAD_DIR, without which stt alone is measured,
`silero_vad.onnx` in the form onnx-asr takes (the package silero-vad has it). Each row is a process
of its own. For each recording, as it is and with noise (see measure_longform.py):
WER, insertions and deletions, words that stand twice where two pieces meet, seconds of the
recording that the model heard, speed, and most memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from measure_longform import doubled, mixed, noise_of, recordings, scores
from recordings import AUDIO_HELP, SAMPLES, group
from stt.install.measure import peak_mib

RATE = 16_000


@dataclass(frozen=True)
class Heard:
    """What one engine made of one recording."""

    texts: tuple[str, ...]
    """Of each piece."""
    decoded_s: float
    elapsed_s: float
    peak_mib: float | None


def by_stt(model: Path | None, vad: Path, audio: Path) -> Heard:
    """Transcribe with this application."""
    from stt.transcriber import load

    transcriber = load(model or "starter", provider="cpu")
    began = time.perf_counter()
    found = transcriber.transcribe(audio)
    elapsed = time.perf_counter() - began
    assert found.coverage is not None
    texts = tuple(segment.text for segment in found.segments)
    return Heard(texts, found.coverage.decoded, elapsed, peak_mib())


def by_onnx_asr(model: Path, vad: Path, audio: Path) -> Heard:
    """Transcribe as onnx-asr's documentation does with long recordings."""
    import json

    import onnx_asr

    kind = json.loads((model / "config.json").read_text("utf-8"))["model_type"]
    asr = onnx_asr.load_model(kind, model, providers=["CPUExecutionProvider"])
    hearing = asr.with_vad(onnx_asr.load_vad("silero", vad))
    began = time.perf_counter()
    pieces = list(hearing.recognize(str(audio)))
    elapsed = time.perf_counter() - began
    decoded = sum(piece.end - piece.start for piece in pieces)
    return Heard(tuple(piece.text for piece in pieces), decoded, elapsed, peak_mib())


ENGINES: dict[str, Callable[..., Heard]] = {
    "stt": by_stt,
    "onnx-asr with its VAD": by_onnx_asr,
}


def row(engine: str, heard: Heard, reference: str, seconds: float) -> str:
    """Return the rest of one row of the table."""
    wer, insertions, deletions = scores(reference, " ".join(heard.texts))
    return (
        f"{engine} | {wer:.2f} | {insertions} / {deletions} | {doubled(heard.texts)} | "
        f"{100 * heard.decoded_s / seconds:.1f} % | {seconds / heard.elapsed_s:.1f} | "
        f"{heard.peak_mib or 0:,.0f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("audio", type=Path, nargs="?", default=SAMPLES, help=AUDIO_HELP)
    parser.add_argument("model", type=Path, nargs="?", help="default: the starter")
    parser.add_argument("vad", type=Path, nargs="?", help="without it stt alone is measured")
    parser.add_argument("--noise", type=Path)
    parser.add_argument("--snr", type=float, nargs="+", default=[10.0])
    parser.add_argument("--only", nargs="+")
    args = parser.parse_args()
    if args.vad and not args.model:
        parser.error("onnx-asr needs MODEL_DIR")
    engines = ENGINES if args.vad else {"stt": by_stt}
    with group("evaluate"):
        import jiwer  # noqa: F401 - before anything is measured
        import whisper_normalizer  # noqa: F401
    context = multiprocessing.get_context("spawn")
    print(
        "| recording | minutes | engine | WER | ins / del | doubled | decoded | RTFx | MiB |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    for name, text, samples in recordings(args.audio, args.only):
        noise = noise_of(args.noise, len(samples)) if args.noise else np.zeros(0, np.float32)
        made = {name: samples}
        if args.noise:
            made |= {f"{name}, {snr:g} dB": mixed(samples, noise, snr) for snr in args.snr}
        for told, audio in made.items():
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "recording.wav"
                soundfile.write(path, audio, RATE, "PCM_16")
                for engine, transcribe in engines.items():
                    with context.Pool(1) as pool:
                        heard = pool.apply(transcribe, (args.model, args.vad, path))
                    seconds = len(audio) / RATE
                    rest = row(engine, heard, text, seconds)
                    print(f"| {told} | {seconds / 60:.1f} | {rest}", flush=True)


if __name__ == "__main__":
    main()
