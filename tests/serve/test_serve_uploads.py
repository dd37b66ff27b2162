"""Uploads that are too large, too long, no recordings, slow, broken off, or find no room."""

from __future__ import annotations

import io
import os
import socket
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from fractions import Fraction
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
import soundfile

from stt.serve import uploads
from stt.transcriber import ModelTranscriber
from support.command import SAID
from support.loading import load_model
from support.paths import CLIPS, DIGITS
from support.serving import Running, gated, running, until

CLIP = CLIPS / "two-digits.flac"
ROUTE = "/v1/audio/transcriptions"
MOST = 100_000


@pytest.fixture(scope="module")
def digits() -> ModelTranscriber:
    return load_model(DIGITS)


@pytest.fixture(scope="module")
def server(digits) -> Iterator[Running]:
    with running(lambda: digits, max_upload_bytes=MOST, max_audio_s=30.0) as at:
        yield at


@pytest.fixture(autouse=True)
def others_are_served_on_and_nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "server" in request.fixturenames:
        server = request.getfixturevalue("server")
        assert post(server, CLIP.read_bytes()).json()["text"] == SAID[CLIP.name]
        until(lambda: not left(server))


def left(server: Running) -> list[Path]:
    folder = server.service.uploads._folder
    return [path for path in folder.iterdir() if path.name != ".lock"] if folder else []


def post(server: Running, data: bytes, name: str = "a.wav", **fields: str) -> httpx.Response:
    with server.client() as client:
        return client.post(ROUTE, files={"file": (name, data)}, data=fields)


def error(answer: httpx.Response) -> tuple[int, str]:
    found = answer.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    assert "/tmp" not in found["message"]
    return answer.status_code, found["code"]


def sound(seconds: float, channels: int = 1, rate: int = 8000, **form: str) -> bytes:
    out = io.BytesIO()
    silence = np.zeros((round(seconds * rate), channels), np.int16)
    soundfile.write(out, silence, rate, **{"format": "FLAC"} | form)
    return out.getvalue()


def connected(server: Running, head: str) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=10)
    client.sendall(
        f"POST {ROUTE} HTTP/1.1\r\nHost: x\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\n{head}\r\n\r\n".encode()
    )
    return client


PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'


def test_a_file_that_says_it_is_too_large_is_refused_before_it_is_read(server) -> None:
    with closing(connected(server, "Content-Length: 100000000\r\nExpect: 100-continue")) as client:
        assert client.recv(1000).startswith(b"HTTP/1.1 413")


def test_a_file_that_says_nothing_is_counted_while_it_streams(server) -> None:
    with closing(connected(server, "Transfer-Encoding: chunked")) as client:
        chunk = PART + b"x" * (MOST + 1000)
        client.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")  # and there may be more
        assert client.recv(1000).startswith(b"HTTP/1.1 413")


def test_a_file_just_within_the_limit_is_read(server) -> None:
    assert error(post(server, b"\0" * MOST)) == (400, "invalid_audio")
    assert error(post(server, b"\0" * (MOST + 1))) == (413, "file_too_large")


def test_hours_in_few_bytes_are_refused_before_they_are_decoded(server) -> None:
    bomb = sound(3600 * 4, rate=2000)
    assert len(bomb) < MOST
    began = time.monotonic()
    assert error(post(server, bomb, "bomb.flac")) == (413, "audio_too_long")
    assert time.monotonic() - began < 2


def test_a_header_that_lies_is_found_out_while_it_is_decoded(server) -> None:
    assert error(post(server, lying(), "lie.aac")) == (413, "audio_too_long")


def lying() -> bytes:
    """38 s whose length is guessed to be 4 s: noise, and then silence that takes few bytes."""
    out = io.BytesIO()
    with av.open(out, "w", format="adts") as container:
        track = container.add_stream("aac", rate=16_000, layout="mono")
        noise = np.random.default_rng(0).standard_normal((40, 1, 1024)).astype(np.float32) * 0.3
        for number in range(600):
            samples = noise[number] if number < len(noise) else np.zeros((1, 1024), np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = (
                16_000,
                number * 1024,
                Fraction(1, 16_000),
            )
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return out.getvalue()


def test_more_channels_than_speech_has_are_refused(server) -> None:
    assert error(post(server, sound(0.01, 33, format="WAV"))) == (422, "too_many_channels")


@pytest.mark.parametrize(
    ("body", "kind", "told"),
    [
        (b"{}", "application/json", (415, "unsupported_media_type")),
        (b"sound", "audio/wav", (415, "unsupported_media_type")),
        (b"no form", "multipart/form-data; boundary=b", (400, "invalid_form")),
        (b"", "multipart/form-data; boundary=b", (400, "invalid_form")),
        (PART + b"abc\r\n", "multipart/form-data; boundary=b", (400, "invalid_form")),
        (
            b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nx\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
            (400, "missing_required_parameter"),
        ),
    ],
)
def test_what_is_no_form_with_a_file_is_told(server, body, kind, told) -> None:
    with server.client() as client:
        assert error(client.post(ROUTE, content=body, headers={"content-type": kind})) == told


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_told(server, monkeypatch) -> None:
    def opened(path: Path):
        path.touch(0o600)
        return os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb", 0)

    with monkeypatch.context() as patch:
        patch.setattr(uploads, "_opened", opened)
        assert error(post(server, CLIP.read_bytes())) == (507, "no_room")


def test_an_upload_that_stands_still_is_given_up(server, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(uploads, "PATIENCE_S", 0.2)
        patch.setattr("stt.serve.exchange._LINGER_S", 0.1)
        with closing(connected(server, "Content-Length: 5000")) as client:
            client.sendall(PART + b"x" * 100)
            until(lambda: left(server))
            assert client.recv(1000).startswith(b"HTTP/1.1 408")


def test_an_upload_that_is_broken_off_leaves_nothing(server) -> None:
    with closing(connected(server, "Content-Length: 5000")) as client:
        client.sendall(PART + b"x" * 100)
        until(lambda: left(server))
    until(lambda: not left(server))


@pytest.mark.skipif(os.name != "posix", reason="Windows has other rights")
def test_a_file_is_its_users_alone_and_goes_with_its_request(digits) -> None:
    with ExitStack() as stack:
        server, recognizer = stack.enter_context(gated(digits))
        answer = stack.enter_context(ThreadPoolExecutor()).submit(post, server, CLIP.read_bytes())
        assert recognizer.begun.wait(10)
        (path,) = left(server)
        folder = path.parent
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        recognizer.gate.set()
        assert answer.result(10).json()["text"] == SAID[CLIP.name]
        until(lambda: not left(server))
    assert not folder.exists()
