"""HTTP for a long time: garbage of all kinds, and many requests with memory and handles flat."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from support.command import SAID
from support.loading import load_model
from support.paths import CLIPS, DIGITS
from support.serving import Running, running, until

pytestmark = pytest.mark.slow
CLIP = CLIPS / "two-digits.flac"
ROUTE = "/v1/audio/transcriptions"
MESSAGES, REQUESTS = 10_000, 2_000


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(lambda: load_model(DIGITS), max_upload_bytes=200_000, max_audio_s=60.0) as at:
        assert post(at) == SAID[CLIP.name]
        yield at


def post(server: Running, **fields: str) -> str:
    with server.client() as client:
        files = {"file": (CLIP.name, CLIP.read_bytes())}
        return client.post(ROUTE, files=files, data=fields).json()["text"]


def garbled(message: bytes, rng: random.Random) -> bytes:
    """A message with bytes changed, left out, doubled, moved, or cut off."""
    data = bytearray(message)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(data) or 1)
        end = min(len(data), at + rng.choice((1, 4, 64, 2000)))
        kind = rng.randrange(5)
        if kind == 0:
            data[at:end] = rng.randbytes(end - at)
        elif kind == 1:
            del data[at:end]
        elif kind == 2:
            data[at:at] = data[at:end]
        elif kind == 3:
            del data[at:]
        else:
            data[at:at] = rng.choice((b"\r\n", b"--b", b"\0", b"[]", b"9" * 30, b"\xff\xfe"))
    return bytes(data)


def message(rng: random.Random) -> tuple[bytes, bool]:
    """A request of which the body, or all, is garbled; and whether its length is as it says."""
    fields = {
        "model": "x",
        "stream": rng.choice(("true", "false")),
        "response_format": rng.choice(("json", "srt", "verbose_json", "diarized_json")),
        "timestamp_granularities[]": rng.choice(("word", "segment")),
        "include[]": rng.choice(("logprobs", "stt.segments")),
        "temperature": rng.choice(("0", "nan", "1e999")),
    }
    method, path = "POST", ROUTE
    if rng.random() < 0.1:
        method = rng.choice(("GET", "PUT", "HEAD"))
        path = rng.choice((ROUTE, "/v1/models/a", "/health", "/metrics"))
    request = httpx.Request(
        method,
        f"http://x{path}",
        files={"file": (CLIP.name, CLIP.read_bytes())},
        data=fields,
    )
    body = request.read()
    is_whole = rng.random() < 0.8
    if is_whole:
        body = garbled(body, rng)
        request.headers["content-length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    line = f"{request.method} {request.url.raw_path.decode()} HTTP/1.1\r\n"
    data = f"{line}{head}\r\n".encode() + body
    return (data, True) if is_whole else (garbled(data, rng), False)


def test_garbage_is_met_with_errors_and_the_others_are_served_on(server, caplog) -> None:
    port = int(server.url.rpartition(":")[2])
    seen: dict[bytes, int] = {}
    lock = threading.Lock()

    def send(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(MESSAGES // 8):
            with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
                data, is_whole = message(rng)
                try:
                    client.sendall(data)
                    if not is_whole:
                        client.shutdown(socket.SHUT_WR)
                    status = client.recv(200)[9:12]
                except OSError:  # it was cut off
                    status = b"cut"
            with lock:
                seen[status] = seen.get(status, 0) + 1

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(send, range(8)))
    assert sum(seen.values()) == MESSAGES
    assert b"500" not in seen, seen
    assert min(seen[status] for status in (b"200", b"400", b"404", b"405")) > 50, seen
    assert not [one for one in caplog.records if one.exc_info]
    assert post(server) == SAID[CLIP.name]
    until(lambda: server.service.admission.waiting_s() == 0)
    folder = server.service.uploads._folder
    until(lambda: [path.name for path in folder.iterdir()] == [".lock"])


def test_memory_handles_and_threads_stay_as_they_are(server) -> None:
    process = psutil.Process()

    def ask(number: int) -> None:
        kinds = ({}, {"stream": "true"}, {"response_format": "nonsense"})
        with server.client() as client:
            files = {"file": (CLIP.name, CLIP.read_bytes())}
            client.post(ROUTE, files=files, data=kinds[number % 3])

    def used() -> tuple[int, int, int]:
        until(lambda: server.service.admission.waiting_s() == 0)
        return process.memory_info().rss, process.num_fds(), process.num_threads()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(REQUESTS // 4)))
        memory, handles, count = used()
        list(threads.map(ask, range(REQUESTS)))
        later = used()
    assert later[0] < memory + 20_000_000
    assert later[1] < handles + 10
    assert later[2] < count + 5
