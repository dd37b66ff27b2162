"""The installed command: it listens, ends in order, and meets what is not its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

from support.paths import CLIPS, DIGITS
from support.serving import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGTERM to send"),
]
ROUTE = "/v1/audio/transcriptions"
CLIP = CLIPS / "two-digits.flac"


class Server:
    """`stt serve` as a process; killed at the end of its block if it has not ended by then."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "stt", "serve", "-m", DIGITS, "--port", 0, *arguments]
        self.process = subprocess.Popen(
            [*map(str, command)],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"LC_ALL": "C"},
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)

    def __enter__(self) -> Server:
        self._reader.start()
        until(lambda: self.greeting or self.process.poll() is not None, 60)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.end()

    def _read(self) -> None:
        with self.process.stderr as stream:
            for line in stream:
                self.lines.append(line)

    @property
    def greeting(self) -> str:
        return next((line for line in self.lines if "listening on" in line), "")

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def client(self) -> httpx.Client:
        url = self.greeting.split("listening on ")[1].split(";")[0]
        return httpx.Client(base_url=url, timeout=60, trust_env=False)

    def post(self, path: Path, **fields: str) -> httpx.Response:
        with self.client() as client:
            files = {"file": (path.name, path.read_bytes())}
            return client.post(ROUTE, files=files, data=fields)

    def begin(self, threads: ThreadPoolExecutor, path: Path, **fields: str):
        """Have a recording transcribed, and wait until that is under way."""
        answer = threads.submit(self.post, path, **fields)
        with self.client() as client:
            until(lambda: client.get("/health").json()["waiting_audio_s"] > 0)
        return answer

    def end(self) -> int:
        code = self.process.wait(30)
        self._reader.join()
        return code


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as threads:
        yield threads


def digits(folder: Path, times: int) -> Path:
    """Minutes of digits."""
    samples, rate = soundfile.read(CLIPS / "eight-digits.flac", dtype="int16")
    path = folder / "long.flac"
    soundfile.write(path, np.tile(samples, times), rate)
    return path


def test_it_finishes_what_it_began_when_it_is_told_to_end(threads, tmp_path) -> None:
    with Server() as server:
        answer = server.begin(threads, digits(tmp_path, 60))
        server.process.send_signal(signal.SIGTERM)
        assert len(answer.result(60).json()["text"].split()) > 400
        assert server.end() == 0
    assert "ending: what is under way has 30 s" in server.text
    assert "long.flac: " in server.text
    assert server.lines[-1] == "stt: ended\n"


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("twice", [False, True])
def test_what_takes_too_long_is_cut_and_that_is_told(threads, tmp_path, stream, twice) -> None:
    """After the grace time, and at once after a second signal."""
    config = tmp_path / "stt_config.json"
    config.write_text(f'{{"grace_s": {30 if twice else 1}}}')
    fields = {"stream": "true"} if stream else {}
    with Server("--config", config) as server:
        answer = server.begin(threads, digits(tmp_path, 6000), **fields)
        if stream:
            time.sleep(1)  # text has come
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        if twice:
            time.sleep(0.5)
            server.process.send_signal(signal.SIGTERM)
        found = answer.result(60)
        assert server.end() == 0
        assert time.monotonic() - began < 10
    assert "warning: cut: long.flac" in server.text
    assert "Traceback" not in server.text
    assert server.lines[-1] == "stt: ended\n"
    last = found.text.strip().rpartition("\n")[2].removeprefix("data: ")
    assert json.loads(last)["error"]["code"] == "server_ending"
    assert found.status_code == (200 if stream else 503)


def test_who_is_on_a_port_serves_on_whatever_comes() -> None:
    with Server() as first:
        port = first.greeting.split(";")[0].rpartition(":")[2]
        with Server("--port", port) as second:
            assert second.end() == 2
            assert "is another server running? choose another with --port" in second.text
        send_garbage(int(port))
        assert first.post(CLIP).json()["text"] == "one two"
        first.process.send_signal(signal.SIGINT)
        assert first.end() == 0
    assert "Traceback" not in first.text


def send_garbage(port: int) -> None:
    for garbage in (b"\x16\x03\x01\x02\x00\x01", b"SSH-2.0-x\r\n\r\n", bytes(range(256)) * 9):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(garbage)
            client.shutdown(socket.SHUT_WR)
            while client.recv(1000):
                pass


def test_a_key_is_needed_where_one_is_set_and_printed_nowhere() -> None:
    with Server("--api-key", "xyzzy") as server, server.client() as client:
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers={"authorization": "Bearer xyzzy"}).text
        assert client.get("/health").json() == {"status": "ok", "api_key_required": True}
    assert "xyzzy" not in server.text


def test_a_model_that_cannot_be_loaded_ends_it(tmp_path) -> None:
    with Server("-m", tmp_path) as server:
        assert server.end() == 1
    assert len(server.lines) == 1
    assert str(tmp_path) in server.text


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl is missing: apt install openssl"
)
def test_over_tls(tmp_path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(["openssl", "req", *made, *subject], check=True, capture_output=True)
    with Server("--tls-cert", cert, "--tls-key", key) as server:
        url = server.greeting.split("listening on ")[1].split(";")[0]
        assert url.startswith("https://")
        trust = ssl.create_default_context(cafile=cert)
        with httpx.Client(base_url=url, verify=trust, trust_env=False) as client:
            assert client.get("/health").json()["status"] == "ok"
    with Server("--tls-cert", key, "--tls-key", cert) as server:
        assert server.end() == 2
    assert "stt: tls_cert, tls_key: " in server.text
