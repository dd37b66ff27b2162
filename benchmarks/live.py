"""How live recognition does: latencies, words at the edges, WER, commitments, noise.

usage: python benchmarks/live.py utterances [AUDIO_DIR] [--set NAME] [-n 50]
       python benchmarks/live.py long [AUDIO_DIR] [--file NAME | --set NAME] [--seconds S]
       python benchmarks/live.py noise NOISE_DIR [--minutes 30]

utterances  clips with random pauses of 1 to 3 s between them: latencies, WER, and whether the first
            and the last word of each was heard (aligned with a word of the text, right or not)
long        one recording, or a whole set joined without pauses: WER beside that of the same audio
            transcribed as a file
noise       recorded noise with coughs, clicks, keys and breaths shaped from it: invented words

All also count the committed words that changed (there must be none) and those that the final
decoding hears otherwise.

Audio is fed at the speed of speech, through the threads that `stt live` uses, and every latency is
given twice: as the events have it and by this script's own clock. With --fast a simulated clock
takes its place: recognising advances it by what it took, times --cost. With --fast --cpu it
advances by processor time instead, which a busy machine changes less; take --threads 1 with it, as
the time of all threads is added up. A quiet machine with more threads is quicker than that.

AUDIO_DIR, by default samples/, is a folder as `scripts/recordings.py` reads it. The set `digits`
(single digits) is spoken as strings of 1 to 8 by the two speakers held out of the tests' model:

    python benchmarks/live.py utterances ../shared/audio --fast --cpu --threads 1
    python benchmarks/live.py long ../shared/audio --set digits -n 100 \\
        --model tests/data/parakeet-digits --fast --cpu --threads 1

Needs the dependency group `evaluate`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stt.audio.utterances import Utterance
from stt.audio.vad import SpeechProbability
from stt.engine.fallback import GuardedRecognizer
from stt.events import Committed, Draft, Event, Final, Level
from stt.settings.loading import load_settings
from stt.streaming.replay import Replay
from stt.streaming.session import LiveSession
from stt.streaming.stream import live, pace_for
from stt.transcriber import ModelTranscriber, load_with
from stt.transcript import Segment
from stt.types import SAMPLE_RATE as RATE
from stt.types import Samples

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "scripts")]
from live_audio import clips, joined, noise
from recordings import AUDIO_HELP, SAMPLES, group, read, rows, word_error_rate

with group("evaluate"):
    import jiwer
    from whisper_normalizer.english import EnglishTextNormalizer

JOBS = ("utterances", "long", "noise")
BLOCK = 800
"""Samples fed at a time: 50 ms."""


@dataclass
class Run:
    """The events of one stream, each with this script's clock (seconds since the stream began)."""

    events: list[tuple[float, Event]] = field(default_factory=list)
    cpu_s: float = 0.0
    wall_s: float = 0.0

    def of(self, kind: type) -> list[tuple[float, Event]]:
        """Those of one kind."""
        return [(clock, event) for clock, event in self.events if isinstance(event, kind)]

    @property
    def text(self) -> str:
        """All final text."""
        return " ".join(final.text for _, final in self.of(Final) if final.text)


def at_speech_speed(samples: Samples, began: float) -> Iterator[Samples]:
    """Yield blocks when they would have been captured."""
    for start in range(0, len(samples), BLOCK):
        block = samples[start : start + BLOCK]
        time.sleep(max(0.0, began + (start + len(block)) / RATE - time.monotonic()))
        yield block


class Timed:
    """A recogniser that knows how much processor time its last job took."""

    def __init__(self, recognizer: GuardedRecognizer) -> None:
        self._recognizer = recognizer
        self.cpu_s = 0.0

    def recognize(self, batch: Sequence[Utterance]) -> list[list[Segment]]:
        """Recognise; see GuardedRecognizer."""
        began = time.process_time()
        try:
            return self._recognizer.recognize(batch)
        finally:
            self.cpu_s = time.process_time() - began


def run(samples: Samples, transcriber: ModelTranscriber, args: argparse.Namespace) -> Run:
    """Feed a stream and keep its events."""
    pace = pace_for(transcriber)
    result = Run()
    began, cpu = time.monotonic(), time.process_time()
    if args.fast:
        # as `live` has it; here nothing is in vain
        recognizer = transcriber.recognizer.hasty(lambda: False)
        guarded = GuardedRecognizer(recognizer, transcriber.choice.precision)
        session = LiveSession(SpeechProbability(), pace)
        timed = Timed(guarded)
        replay = Replay(
            session, timed, lambda _, took: args.cost * (timed.cpu_s if args.cpu else took)
        )
        blocks = (samples[i : i + BLOCK] for i in range(0, len(samples), BLOCK))
        result.events = [(replay.now, event) for event in replay.events(blocks)]
    else:
        source = at_speech_speed(samples, began)
        with live(source, transcriber, RATE, pace=pace) as events:
            result.events = [(time.monotonic() - began, event) for event in events]
    result.wall_s = time.monotonic() - began
    result.cpu_s = time.process_time() - cpu
    return result


def check_commitments(events: Iterable[Event]) -> tuple[int, int]:
    """Return (committed words, those that changed): the stream's text may only grow."""
    pending: list[str] = []
    count = changed = 0
    for event in events:
        if isinstance(event, Committed):
            pending += event.text.split()
            count += len(event.text.split())
        elif isinstance(event, Final):
            whole = [*event.text.split(), *event.carried.split()]
            changed += sum(a != b for a, b in zip(pending, whole, strict=False))
            changed += max(0, len(pending) - len(whole))
            pending = event.carried.split()
    return count, changed + len(pending)


def normaliser(name: str) -> Callable[[str], str]:
    """Return what texts of a set are compared after: Whisper's, which would join single digits."""
    return str.lower if name == "digits" else EnglishTextNormalizer()


def quantiles(values: list[float]) -> str:
    """Median, 95th percentile and worst, in seconds."""
    if not values:
        return "- | - | -"
    return " | ".join(f"{v:.2f}" for v in (*np.quantile(values, (0.5, 0.95)), max(values)))


def report(result: Run) -> None:
    """Print what can be said of any run."""
    finals = [(clock, event) for clock, event in result.of(Final) if not event.seam]
    drafts: dict[int, tuple[float, Draft]] = {}
    for clock, draft in result.of(Draft):
        drafts.setdefault(draft.number, (clock, draft))
    seams = len(result.of(Final)) - len(finals)
    print(f"{len(finals)} utterances ended in silence, {seams} seams; latencies in seconds:")
    print("| from - to | median | 95 % | worst |\n|---|---|---|---|")
    rows = {
        "first speech - first draft (events)": [d.latency_s for _, d in drafts.values()],
        "endpoint - final (events)": [final.latency_s for _, final in finals],
        "endpoint - final (own clock)": [clock - final.endpoint for clock, final in finals],
        "end of speech - final (own clock)": [clock - f.speech_end for clock, f in finals],
        "end of speech - endpoint": [f.endpoint - f.speech_end for _, f in finals],
    }
    for name, values in rows.items():
        print(f"| {name} | {quantiles(values)} |")
    count, changed = check_commitments(event for _, event in result.events)
    differ = sum(final.disagreements for _, final in result.of(Final))
    print(f"committed words: {count}; changed: {changed}; final decoding disagrees: {differ}")
    lag = max((level.lag_s for _, level in result.of(Level)), default=0.0)
    print(f"greatest lag {lag:.2f} s; processor {result.cpu_s:.0f} s in {result.wall_s:.0f} s")


# --- measurements -------------------------------------------------------------------------------


def utterances(transcriber: ModelTranscriber, args: argparse.Namespace) -> None:
    """Utterances with random pauses: latencies, and the words at their edges."""
    said = clips(args.audio, args.set, args.n)
    samples, places = joined(said, np.random.default_rng(args.seed))
    result = run(samples, transcriber, args)
    report(result)
    first_drafts = _first_drafts(result, places)
    print(f"| clip's begin - first draft (own clock) | {quantiles(first_drafts)} |")
    texts = [_text_between(result, place) for place in places]
    alone = [transcriber.transcribe(clip.samples, sample_rate=RATE).text for clip in said]
    references, normalise = [clip.text for clip in said], normaliser(args.set)
    print(f"a text for {sum(map(bool, texts))} of {len(said)} utterances")
    print(
        "| | first word heard | last word heard | first right | last right |\n|---|---|---|---|---|"
    )
    for name, found in ("live", texts), ("clips alone", alone):
        pairs = zip(references, found, strict=True)
        counts = np.sum([_edges_heard(*map(normalise, pair)) for pair in pairs], axis=0)
        print(f"| {name} | " + " | ".join(f"{count} of {len(said)}" for count in counts) + " |")
    for reference, text, other in zip(references, texts, alone, strict=True):
        if not all(_edges_heard(normalise(reference), normalise(text))[:2]):
            print(f"  said: {reference}\n  live: {text}\n  alone: {other}")
    print(f"WER live {word_error_rate(references, texts, normalise):.1f} %", end=", ")
    print(f"clips alone {word_error_rate(references, alone, normalise):.1f} %")


def _first_drafts(result: Run, places: list[tuple[float, float]]) -> list[float]:
    found = []
    for begin, end in places:
        clocks = [
            clock
            for clock, draft in result.of(Draft)
            if begin < draft.at < end + 1 and (draft.text or draft.committed)
        ]
        found += [min(clocks) - begin] if clocks else []
    return found


def _text_between(result: Run, place: tuple[float, float]) -> str:
    """Join the finals whose speech ends in a clip."""
    return " ".join(
        final.text
        for _, final in result.of(Final)
        if place[0] < final.speech_end <= place[1] + 0.5 and final.text
    )


def _edges_heard(reference: str, text: str) -> tuple[bool, bool, bool, bool]:
    """Tell whether the first and last word were heard, and whether they were heard right."""
    if not text:
        return False, False, False, False
    chunks = jiwer.process_words(reference, text).alignments[0]
    first = next(chunk for chunk in chunks if chunk.ref_end_idx > chunk.ref_start_idx)
    last = next(chunk for chunk in chunks[::-1] if chunk.ref_end_idx > chunk.ref_start_idx)
    return (
        first.type != "delete",
        last.type != "delete",
        first.type == "equal",
        last.type == "equal",
    )


def long(transcriber: ModelTranscriber, args: argparse.Namespace) -> None:
    """One long recording: WER of live text beside that of the file."""
    if args.set == "digits":
        said = clips(args.audio, args.set, args.n)
        samples, text = np.concatenate([c.samples for c in said]), " ".join(c.text for c in said)
    else:
        listed = rows(args.audio)
        of_name = [row for row in listed if Path(row["path"]).name == args.file]
        row = of_name[0] if of_name else max(listed, key=lambda row: float(row["duration_s"]))
        samples, text = read(args.audio / row["path"]), row["text"]
    samples = samples[: round(args.seconds * RATE) or None]
    result = run(samples, transcriber, args)
    report(result)
    whole, normalise = transcriber.transcribe(samples, sample_rate=RATE).text, normaliser(args.set)
    print(f"WER live {word_error_rate([text], [result.text], normalise):.2f} %", end=", ")
    print(f"file {word_error_rate([text], [whole], normalise):.2f} %", end=", ")
    print(f"live against file {word_error_rate([whole], [result.text], normalise):.2f} %")


def noises(transcriber: ModelTranscriber, args: argparse.Namespace) -> None:
    """Noise without speech: invented words."""
    samples = noise(args.audio, args.minutes, np.random.default_rng(args.seed))
    result = run(samples, transcriber, args)
    finals = [final for _, final in result.of(Final)]
    words = sum(len(final.text.split()) for final in finals)
    drafts = len([d for _, d in result.of(Draft) if d.text or d.committed])
    print(f"{args.minutes:g} minutes: {len(finals)} utterances, {words} invented words", end=", ")
    print(f"{drafts} drafts; left out: {[f.suppressed for f in finals if f.suppressed]}")
    for final in finals:
        if final.text:
            print(f"  {final.start:.1f} {final.text}")


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", nargs="?", default="utterances", choices=JOBS)
    parser.add_argument("audio", type=Path, nargs="?", default=SAMPLES, help=AUDIO_HELP)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--fast", action="store_true", help="simulated clock")
    parser.add_argument("--cost", type=float, default=1.0, help="of recognising, times measured")
    parser.add_argument("--cpu", action="store_true", help="with --fast: cost is processor time")
    parser.add_argument("--set", default="librispeech-test")
    parser.add_argument("--file", default="libri_testother_10speakers.flac")
    parser.add_argument("-n", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, default=0.0, help="of the long stream")
    parser.add_argument("--seed", type=int, default=4)
    args = parser.parse_args()
    if args.what == "noise" and args.audio == SAMPLES:
        parser.error("noise needs a folder of recorded noises: NOISE_DIR")
    transcriber = load_with(
        load_settings(None, {"model": args.model, "provider": "cpu", "threads": args.threads})
    )
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"model {transcriber.model}, {os.cpu_count()} cores, load before: {load}", flush=True)
    {"utterances": utterances, "long": long, "noise": noises}[args.what](transcriber, args)


if __name__ == "__main__":
    main()
