"""`stt.live` on a real audio path, timed from outside: PulseAudio, ALSA, PortAudio, the model.

usage: python scripts/measure_microphone.py [AUDIO_DIR] [--set NAME | --file NAME] [-n 50]
           [--model NAME|DIR] [--minutes M] [--load 2]

A private PulseAudio daemon (tests/support/pulse.py) plays speech into a microphone at real speed. A
child process listens with `stt.live`; this process stamps its events as they arrive, and hears the
same microphone by itself with `parec`. Both recordings are laid over what was played, which tells
on this process's clock when each moment of the audio was heard. `--minutes` repeats the speech for
that long; `--load` keeps so many processes busy meanwhile. AUDIO_DIR, by default samples/, is a
folder as `recordings.py` reads it. Needs the extra `mic`, the dependency group `evaluate`, and the
Debian packages pulseaudio pulseaudio-utils libasound2-plugins libportaudio2.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import soundfile

import stt
from measure_live import (
    RATE,
    Clip,
    check_commitments,
    clips,
    joined,
    named,
    quantiles,
    read,
    word_error_rate,
)
from recordings import AUDIO_HELP, SAMPLES, rows
from stt import events as kinds
from stt.events import Draft, Event, Final, Level, Problem

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "live"))
from pulse import MICROPHONE, Pulse, missing

Samples = npt.NDArray[np.float32]
ROOM_S = 3.0
"""Seconds of a quiet room before and behind what is played."""


@dataclass
class Heard:
    """What came of one run."""

    events: list[tuple[float, Event]] = field(default_factory=list)
    """(seconds on this process's clock, event)."""
    at_zero: float = 0.0
    """This process's clock when the first sample of the child's microphone was heard."""
    cpu_s: float = 0.0
    """Processor seconds of the child from the first event to the last."""
    rss_mib: list[float] = field(default_factory=list)
    """Memory of the child, once in 5 s."""

    def of(self, kind: type) -> list[tuple[float, Any]]:
        """Those of one kind."""
        return [(clock, event) for clock, event in self.events if isinstance(event, kind)]


# --- the child --------------------------------------------------------------------------------


def listen(model: str, record: str) -> None:
    """Print each event of `stt.live` as a JSON line; a line on standard input ends it."""
    listening = stt.live(MICROPHONE, model, record=record, provider="cpu")

    def stop() -> None:
        sys.stdin.readline()
        listening.stop()

    threading.Thread(target=stop, daemon=True).start()
    for event in listening:
        print(json.dumps({"event": type(event).__name__} | asdict(event)), flush=True)


def _event(line: str) -> Event:
    values = json.loads(line)
    kind = getattr(kinds, values.pop("event"))
    return kind(**values)  # type: ignore[no-any-return]


# --- the run ----------------------------------------------------------------------------------


def run(played: Path, seconds: float, model: str, load: int) -> Heard:
    """Play a recording of that length into the microphone; collect the child's events."""
    with tempfile.TemporaryDirectory(prefix="stt-") as folder, Pulse(_home(folder)) as pulse:
        pulse.plug()
        ours, theirs = Path(folder, "parec.raw"), Path(folder, "child.flac")
        with _parec(pulse, ours) as parec_began, _child(pulse, model, theirs) as (child, heard):
            _wait(heard)
            with busy(load):
                pulse.speak(played, wait=False)
                _watch(child, heard, seconds)
                assert child.stdin is not None
                child.stdin.write("stop\n")
                child.stdin.flush()
                child.wait(600)
        outside = np.fromfile(ours, np.int16)[: RATE * 60].astype(np.float32) / 32_768
        inside = read(theirs)[: RATE * 60]
        heard.at_zero = parec_began() + _lag(inside, outside) / RATE
    return heard


def _home(folder: str) -> Path:
    home = Path(folder, "pulse")
    home.mkdir()
    return home


@contextmanager
def _parec(pulse: Pulse, path: Path) -> Iterator[Any]:
    """Record the microphone; gives a function that tells when its first sample was heard."""
    command = ["parec", "-d", MICROPHONE, "--latency-msec=20", "--format=s16le"]
    with path.open("wb") as file:
        process = subprocess.Popen(
            [*command, f"--rate={RATE}", "--channels=1"], env=pulse.env, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        stream = process.stdout
        begins: list[float] = []

        def pump() -> None:
            count = 0
            while data := stream.read1(4096):  # type: ignore[attr-defined]
                count += len(data) // 2
                begins.append(time.monotonic() - count / RATE)
                file.write(data)

        thread = threading.Thread(target=pump, daemon=True)
        thread.start()
        yield lambda: min(begins)  # a block comes late rather than early
        process.terminate()
        thread.join()
        process.wait()


@contextmanager
def _child(pulse: Pulse, model: str, record: Path) -> Iterator[tuple[subprocess.Popen[str], Heard]]:
    heard = Heard()
    process = subprocess.Popen(
        [sys.executable, __file__, "--child", model, str(record)],
        env=pulse.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def collect() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            heard.events.append((time.monotonic(), _event(line)))

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    yield process, heard
    thread.join(60)
    if process.poll() is None:
        process.kill()


def _wait(heard: Heard) -> None:
    deadline = time.monotonic() + 60
    while not heard.events and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)


def _watch(child: subprocess.Popen[str], heard: Heard, seconds: float) -> None:
    """Wait until all was played, looking at the child's memory and processor time."""
    process = psutil.Process(child.pid)
    before, began = process.cpu_times(), time.monotonic()
    while time.monotonic() < began + seconds:
        time.sleep(min(5.0, seconds))
        heard.rss_mib.append(process.memory_info().rss / 2**20)
    after = process.cpu_times()
    heard.cpu_s = (after.user - before.user) + (after.system - before.system)


def _lag(inside: Samples, outside: Samples) -> int:
    """Return by how many samples the second recording is ahead of the first: where [0] lies."""
    size = 1 << (len(inside) + len(outside)).bit_length()
    product = np.fft.rfft(outside, size) * np.conj(np.fft.rfft(inside, size))
    lag = int(np.argmax(np.fft.irfft(product, size)))
    return lag if lag < size // 2 else lag - size


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep `count` processes computing."""
    workers = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(count)]
    for worker in workers:
        worker.start()
    yield
    for worker in workers:
        worker.kill()


def _spin() -> None:
    while True:
        pass


# --- the report -------------------------------------------------------------------------------


def report(heard: Heard, said: list[Clip], seconds: float, name: str) -> None:
    """Print the latencies by both clocks, the words and the load."""
    finals = heard.of(Final)
    ended = [(clock, final) for clock, final in finals if not final.seam]
    drafts: dict[int, tuple[float, Draft]] = {}
    for clock, draft in heard.of(Draft):
        drafts.setdefault(draft.number, (clock, draft))
    zero = heard.at_zero
    print(f"{len(said)} spoken, {len(ended)} ended in silence, {len(finals) - len(ended)} seams")
    print("| seconds from - to | median | 95 % | worst |\n|---|---|---|---|")
    rows = {
        "first speech - first draft, told by stt": [d.latency_s for _, d in drafts.values()],
        "endpoint - final text, told by stt": [final.latency_s for _, final in ended],
        "endpoint - final text, outside": [c - zero - f.endpoint for c, f in ended],
        "end of speech - final text, outside": [c - zero - f.speech_end for c, f in ended],
    }
    for name, values in rows.items():
        print(f"| {name} | {quantiles(values)} |")
    count, changed = check_commitments(event for _, event in heard.events)
    differ = sum(final.disagreements for _, final in finals)
    print(f"committed words {count}, changed {changed}, heard otherwise in the end {differ}")
    live = " ".join(final.text for _, final in finals if final.text)
    spoken = " ".join(clip.text for clip in said)
    print(f"WER live {word_error_rate([spoken], [live], name):.2f} %", end=", ")
    lag = max((level.lag_s for _, level in heard.of(Level)), default=0.0)
    print(f"greatest lag {lag:.2f} s")
    print(f"processor {100 * heard.cpu_s / seconds:.1f} % of a core over {seconds / 60:.1f} min")
    memory = heard.rss_mib
    if len(memory) > 2:
        print(f"memory {memory[1]:.0f} MiB at first, {max(memory):.0f} most, {memory[-1]:.0f} last")
    for _, problem in heard.of(Problem):
        print(f"  {problem.at:.1f} s: {problem.kind}: {problem.message}")


def main() -> None:
    """Parse the command line, play, listen and report."""
    if sys.argv[1:2] == ["--child"]:
        listen(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("audio", type=Path, nargs="?", default=SAMPLES, help=AUDIO_HELP)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--set", default="librispeech-test")
    parser.add_argument("--file", help="one long recording instead of a set")
    parser.add_argument("-n", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--load", type=int, default=0, help="processes kept busy")
    parser.add_argument("--seed", type=int, default=4)
    args = parser.parse_args()
    if lacking := missing():
        sys.exit(lacking)
    said = _said(args)
    samples, _ = joined(said, np.random.default_rng(args.seed))
    with tempfile.TemporaryDirectory(prefix="stt-") as folder:
        path = Path(folder, "played.wav")
        soundfile.write(path, samples, RATE)
        print(f"model {args.model}, load before {os.getloadavg()[0]:.1f}, busy {args.load}")
        seconds = len(samples) / RATE + ROOM_S
        report(run(path, seconds, args.model, args.load), said, seconds, args.set)
        transcript = stt.load(args.model, provider="cpu").transcribe(path)
        spoken = " ".join(clip.text for clip in said)
        print(f"WER file {word_error_rate([spoken], [transcript.text], args.set):.2f} %")


def _said(args: argparse.Namespace) -> list[Clip]:
    if args.file:
        row = named(rows(args.audio), args.file)
        said = [Clip(read(args.audio / row["path"]), row["text"])]
    else:
        said = clips(args.audio, args.set, args.n)
    whole = list(said)
    while sum(len(clip.samples) + 2 * RATE for clip in whole) < args.minutes * 60 * RATE:
        whole += said
    return whole


if __name__ == "__main__":
    main()
