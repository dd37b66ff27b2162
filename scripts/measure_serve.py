"""What `stt serve` adds, holds and bears: measured beside the bare engine, with the same model.

usage: python scripts/measure_serve.py [PART ...] [--model NAME] [--precision P] [--seconds S]
                                       [--clients N[,N...]] [--soak-minutes M] [--json FILE]

PART, all but soak by default:

added       a command of 5 s over HTTP beside the same in this process, in turns: milliseconds more
throughput  a dozen recordings of 40 s over HTTP, all at once, beside `transcribe_many`, in turns
load        so many clients, each with command after command of 5 s, beside a long file: time to the
            answer, median and 95 %, seconds of audio a second of all commands, memory
sessions    200 live sessions, opened, spoken to and dropped: threads, handles and memory
soak        clients of every kind for so long: errors, memory

The server is the installed command, a process of its own, on loopback. The engine of this process
does nothing while the server works, and the other way round.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import SHUT_RDWR
from statistics import median, quantiles
from typing import Any

import httpx
import numpy as np
import psutil
import soundfile
from websockets.sync.client import connect

from recordings import SAMPLES, read, rows
from stt.batch.pool import transcribe_many
from stt.settings.loading import load_settings
from stt.transcriber import ModelTranscriber, load_with
from stt.types import SAMPLE_RATE

PARTS = ("added", "throughput", "load", "sessions")
ADDRESS = "/v1/audio/transcriptions"
ROUNDS = 15
SESSIONS = 200


@dataclass(frozen=True)
class Server:
    """A server that listens."""

    url: str
    process: psutil.Process
    client: httpx.Client

    def answered(self, path: Path) -> float:
        """Have a recording transcribed; returns the seconds until the answer."""
        began = time.perf_counter()
        with path.open("rb") as file:
            answer = self.client.post(ADDRESS, files={"file": file}, data={"model": "stt"})
        answer.raise_for_status()
        return time.perf_counter() - began

    @property
    def mib(self) -> float:
        """Resident memory."""
        return self.process.memory_info().rss / 2**20


@contextmanager
def served(flags: Sequence[str]) -> Iterator[Server]:
    """Start the installed command on a free port."""
    command = [Path(sys.executable).with_name("stt"), "serve", "--port", "0", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = next(one for one in process.stderr if "listening on http" in one)
    threading.Thread(target=process.stderr.read, daemon=True).start()  # its log is not wanted
    url = line.split()[3].rstrip(";")
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    try:
        with httpx.Client(base_url=url, limits=limits, timeout=3600, trust_env=False) as client:
            yield Server(url, psutil.Process(process.pid), client)
    finally:
        process.terminate()
        process.wait(60)


def written(folder: Path, name: str, seconds: float, begin: float = 0.0) -> Path:
    """Write so many seconds of the samples, from a place in them on."""
    speech = np.concatenate([read(SAMPLES / row["path"]) for row in rows(SAMPLES)])
    path = folder / name
    turned = np.roll(speech, -round(begin * SAMPLE_RATE))
    soundfile.write(path, np.resize(turned, round(seconds * SAMPLE_RATE)), SAMPLE_RATE)
    return path


def added(server: Server, bare: ModelTranscriber, folder: Path) -> dict[str, float]:
    """Compare a command over HTTP with the same in this process."""
    command = written(folder, "command.wav", 5.0)
    server.answered(command)
    bare.transcribe(str(command))
    over, within = [], []
    for _ in range(ROUNDS):
        over.append(server.answered(command))
        began = time.perf_counter()
        bare.transcribe(str(command))
        within.append(time.perf_counter() - began)
    more = [a - b for a, b in zip(over, within, strict=True)]
    found = {
        "server_ms": 1e3 * median(over),
        "engine_ms": 1e3 * median(within),
        "added_ms": 1e3 * median(more),
    }
    print(
        f"added: a command of 5 s takes {found['server_ms']:.0f} ms over HTTP, "
        f"{found['engine_ms']:.0f} ms in the engine; {found['added_ms']:+.1f} ms in the median of "
        f"{ROUNDS} turns"
    )
    return found


def throughput(server: Server, bare: ModelTranscriber, folder: Path) -> dict[str, float]:
    """Compare many recordings at once with the same in this process."""
    files = [written(folder, f"{n}.wav", 40.0, 3.0 * n) for n in range(12)]
    rates: dict[str, list[float]] = {"server": [], "engine": []}
    for _ in range(3):
        began = time.perf_counter()
        with ThreadPoolExecutor(len(files)) as pool:
            list(pool.map(server.answered, files))
        rates["server"].append(40 * len(files) / (time.perf_counter() - began))
        began = time.perf_counter()
        list(transcribe_many(bare, files))
        rates["engine"].append(40 * len(files) / (time.perf_counter() - began))
    found = {name: median(some) for name, some in rates.items()}
    pairs = zip(rates["server"], rates["engine"], strict=True)
    share = found["share"] = median(100 * over / within for over, within in pairs)
    print(
        f"throughput: {found['server']:.1f} times real time over HTTP, {found['engine']:.1f} in "
        f"the engine: {share:.0f} % in the median of the turns"
    )
    return found


def load(server: Server, folder: Path, clients: Sequence[int], seconds: float) -> dict[str, Any]:
    """Let clients send command after command while a long file is transcribed."""
    command = written(folder, "command.wav", 5.0)
    long = written(folder, "long.wav", 3600.0)
    found = {}
    print("load: clients | commands | median s | 95 % s | audio s per s | MiB")
    for count in clients:
        stop = threading.Event()
        leaving = threading.Thread(target=_until, args=(server, long, stop))
        leaving.start()
        time.sleep(3)
        times: list[float] = []
        until = time.perf_counter() + seconds

        def send(until: float = until, times: list[float] = times) -> None:
            while time.perf_counter() < until:
                times.append(server.answered(command))

        began = time.perf_counter()
        threads = [threading.Thread(target=send) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rate = 5.0 * len(times) / (time.perf_counter() - began)
        stop.set()
        leaving.join()
        row = {
            "commands": len(times),
            "p50_s": median(times),
            "p95_s": quantiles(times, n=20)[-1] if len(times) > 1 else times[0],
            "audio_s_per_s": rate,
            "mib": server.mib,
        }
        found[str(count)] = row
        print(
            f"      {count} | {row['commands']} | {row['p50_s']:.2f} | {row['p95_s']:.2f} | "
            f"{rate:.1f} | {row['mib']:.0f}"
        )
    return found


def _until(server: Server, path: Path, stop: threading.Event) -> None:
    """Have a long file transcribed, and leave in the middle."""
    data = {"model": "stt", "stream": "true", "include[]": "stt.progress"}
    with (
        path.open("rb") as file,
        server.client.stream("POST", ADDRESS, files={"file": file}, data=data) as answer,
    ):
        for _ in answer.iter_lines():
            if stop.is_set():
                return


def spoken(server: Server, samples: np.ndarray) -> None:
    """Open a live session, speak half a second, and drop it without a word."""
    url = server.url.replace("http", "ws", 1) + "/v1/realtime?intent=transcription"
    audio = base64.b64encode(samples.tobytes()).decode()
    socket = connect(url)
    socket.recv()
    socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
    socket.socket.shutdown(SHUT_RDWR)  # a thread reads from it: to close it alone does not end it
    socket.socket.close()


def sessions(server: Server) -> dict[str, Any]:
    """Open and drop live sessions, and look what they leave behind."""
    speech = read(SAMPLES / "weather.flac")[: SAMPLE_RATE // 2]
    samples = (np.repeat(speech, 3)[::2] * 32767).astype(np.int16)  # 24 kHz, roughly
    seen = []
    for count in (20, SESSIONS, SESSIONS):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: spoken(server, samples), range(count)))
        time.sleep(5)
        process = server.process
        seen.append((process.num_threads(), process.num_fds(), server.mib))
        print(
            f"sessions: after {count} more: {seen[-1][0]} threads, {seen[-1][1]} handles, "
            f"{seen[-1][2]:.0f} MiB"
        )
    return {"threads_handles_mib": seen}


def soak(server: Server, folder: Path, minutes: float) -> dict[str, Any]:
    """Mix commands, files and live sessions for long."""
    command, file = written(folder, "c.wav", 5.0), written(folder, "f.wav", 120.0)
    speech = (np.repeat(read(SAMPLES / "train.flac"), 3)[::2] * 32767).astype(np.int16)
    until = time.perf_counter() + 60 * minutes
    counts: dict[str, int] = {}
    errors: list[str] = []

    def repeat(name: str, work: Callable[[], object], pause: float) -> None:
        while time.perf_counter() < until:
            try:
                work()
                counts[name] = counts.get(name, 0) + 1
            except (httpx.HTTPError, OSError) as error:
                errors.append(f"{name}: {type(error).__name__}: {error}")
            time.sleep(pause)

    kinds: list[tuple[str, Callable[[], object], float]] = [
        *[("command", lambda: server.answered(command), 0.5)] * 2,
        ("file", lambda: server.answered(file), 5.0),
        *[("session", lambda: spoken(server, speech), 2.0)] * 2,
    ]
    threads = [threading.Thread(target=repeat, args=kind) for kind in kinds]
    for thread in threads:
        thread.start()
    memory = []
    while time.perf_counter() < until:
        time.sleep(min(30.0, 6 * minutes))
        memory.append(round(server.mib))
    for thread in threads:
        thread.join()
    print(f"soak: {minutes:g} min: {counts}, {len(errors)} errors; MiB {memory}")
    for line in errors[:5]:
        print(f"      {line}")
    return {"counts": counts, "errors": errors, "mib": memory}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join((*PARTS, "soak")))
    parser.add_argument("--model", default="starter")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--clients", default="1,8,32", metavar="N[,N...]")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load for each number")
    parser.add_argument("--soak-minutes", type=float, default=60.0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args()
    parts = asked.parts or PARTS
    flags = ["-m", asked.model, "-p", asked.precision, "--max-upload-mb", "5000"]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, served(flags) as server:
        folder = Path(name)
        if {"added", "throughput"} & {*parts}:
            given = {"model": asked.model, "precision": asked.precision}
            bare = load_with(load_settings(None, given))
            if "added" in parts:
                found["added"] = added(server, bare, folder)
            if "throughput" in parts:
                found["throughput"] = throughput(server, bare, folder)
        if "load" in parts:
            clients = [int(one) for one in asked.clients.split(",")]
            found["load"] = load(server, folder, clients, asked.seconds)
        if "sessions" in parts:
            found["sessions"] = sessions(server)
        if "soak" in parts:
            found["soak"] = soak(server, folder, asked.soak_minutes)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
