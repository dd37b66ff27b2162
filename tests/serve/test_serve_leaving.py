"""Clients that leave, requests that wait too long, and models that fail: the others go on."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import openai
import pytest

from stt.engine.recognizer import Recognizer
from stt.errors import ModelError
from stt.serve import health, transcriptions
from stt.transcriber import ModelTranscriber
from support import tiny_tdt
from support.command import SAID
from support.loading import load_model
from support.paths import CLIPS, DIGITS, SAMPLES
from support.serving import Running, gated, running, until

CLIP = CLIPS / "two-digits.flac"
LONG = SAMPLES / "story.flac"  # 44 s
ROUTE = "/v1/audio/transcriptions"


@pytest.fixture(scope="module")
def digits() -> ModelTranscriber:
    return load_model(DIGITS)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as threads:
        yield threads


def post(server: Running, path=CLIP, **fields: str) -> httpx.Response:
    with server.client() as client:
        return client.post(ROUTE, files={"file": (path.name, path.read_bytes())}, data=fields)


def leave(server: Running, gone: threading.Event, **fields: str) -> None:
    """Ask for a long recording, and leave when told."""
    request = httpx.Request(
        "POST", server.url + ROUTE, files={"file": (LONG.name, LONG.read_bytes())}, data=fields
    )
    body = request.read()
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with socket.create_connection(("127.0.0.1", request.url.port), timeout=10) as client:
        client.sendall(f"POST {ROUTE} HTTP/1.1\r\n{head}\r\n".encode() + body)
        gone.wait(10)


@pytest.mark.parametrize("fields", [{}, {"stream": "true", "include[]": "stt.progress"}])
def test_the_work_of_who_leaves_stops_within_an_utterance(digits, threads, fields) -> None:
    with gated(digits) as (server, recognizer):
        gone = threading.Event()
        leaving = threads.submit(leave, server, gone, **fields)
        assert recognizer.begun.wait(10)
        until(lambda: server.service.engine.waiting)  # more of it waits
        taken = recognizer.taken
        gone.set()
        until(lambda: not server.service.engine.waiting)  # and is taken back
        recognizer.gate.set()
        leaving.result(10)
        until(lambda: server.service.admission.waiting_s() == 0)
        assert recognizer.taken == taken
        assert post(server).json()["text"] == SAID[CLIP.name]


def test_the_first_text_comes_while_the_rest_is_recognised(digits) -> None:
    with gated(digits) as (server, recognizer):
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="x") as client:
            recognizer.gate.set()
            events = client.audio.transcriptions.create(file=LONG, model="x", stream=True)
            first = next(iter(events))
            assert first.type == "transcript.text.delta"
            recognizer.gate.clear()
            seen = recognizer.taken
            recognizer.gate.set()
            rest = list(events)
        assert recognizer.taken > seen
        assert rest[-1].type == "transcript.text.done"
        text = first.delta + "".join(one.delta for one in rest[:-1])
        assert text == rest[-1].text


def test_a_stream_shows_that_it_lives_and_the_client_does_not_mind(
    digits, threads, monkeypatch
) -> None:
    monkeypatch.setattr(transcriptions, "_KEEP_ALIVE_S", 0.05)
    with gated(digits) as (server, recognizer):
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="x") as client:
            create = client.audio.transcriptions.create
            events = threads.submit(lambda: list(create(file=CLIP, model="x", stream=True)))
            answer = threads.submit(post, server, stream="true")
            time.sleep(0.2)
            recognizer.gate.set()
            assert events.result(10)[-1].text == SAID[CLIP.name]
        assert answer.result(10).text.startswith(": still at work\n\n")


def test_a_command_passes_a_long_file(digits, threads) -> None:
    with gated(digits) as (server, recognizer):
        long = threads.submit(post, server, LONG)
        assert recognizer.begun.wait(10)
        until(lambda: server.service.engine.waiting)
        command = threads.submit(post, server)
        until(lambda: server.service.engine.waiting > 1)
        recognizer.gate.set()
        assert command.result(10).json()["text"] == SAID[CLIP.name]
        shortest = min(recognizer.lengths)
        assert recognizer.lengths.index(shortest) == 1  # right behind what was under way
        assert long.result(30).status_code == 200


def test_what_would_wait_too_long_is_asked_to_come_again(digits, threads) -> None:
    with gated(digits, queue_s=0.01) as (server, recognizer):
        first = threads.submit(post, server, LONG)
        assert recognizer.begun.wait(10)
        with (
            openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as client,
            pytest.raises(openai.RateLimitError) as raised,
        ):
            client.audio.transcriptions.create(file=LONG, model="x")
        assert int(raised.value.response.headers["retry-after"]) >= 1
        assert raised.value.code == "rate_limit_exceeded"
        recognizer.gate.set()
        assert first.result(30).status_code == 200
        assert post(server).status_code == 200
        assert 'stt_errors_total{code="rate_limit_exceeded"} 1.0' in metrics(server)


def metrics(server: Running) -> str:
    with server.client() as client:
        return client.get("/metrics").text


def test_work_that_stands_still_is_told(digits, threads, monkeypatch) -> None:
    monkeypatch.setattr(health, "STALLED_S", 0.2)
    with gated(digits) as (server, recognizer), server.client() as client:
        assert client.get("/health").json()["status"] == "ok"
        waiting = threads.submit(post, server)
        until(lambda: client.get("/health").status_code == 503)
        told = client.get("/health").json()
        assert (told["status"], told["still_s"] > 0.2) == ("stalled", True)
        assert told["waiting_audio_s"] == pytest.approx(1.42, abs=0.1)
        recognizer.gate.set()
        assert waiting.result(10).status_code == 200
        until(lambda: client.get("/health").json()["status"] == "ok")


def test_a_precision_that_gives_nan_is_left_and_what_ran_is_told(tmp_path) -> None:
    tiny_tdt.add_collapsing(tiny_tdt.build(tmp_path / "tiny"))
    with running(lambda: load_model(tmp_path / "tiny", precision="fp16")) as server:
        answer = post(server, response_format="verbose_json")
        assert answer.headers["x-stt-precision"] == "fp32"
        assert set(answer.json()["text"].split()) == {"go"}
        with server.client() as client:
            assert client.get("/health").json()["precision"] == "fp16"


class Failing:
    """A recogniser that fails when it is told to."""

    error: Exception | None = None

    def __init__(self, inner: Recognizer) -> None:
        self._inner = inner

    def __getattr__(self, name: str):
        return getattr(self._inner, name)

    def recognize(self, *arguments):
        if self.error:
            raise self.error
        return self._inner.recognize(*arguments)


@pytest.fixture(scope="module")
def failing(digits) -> Iterator[tuple[Running, Failing]]:
    recognizer = Failing(digits.recognizer)
    with running(lambda: replace(digits, recognizer=recognizer)) as server:
        server.service.engine.load()
        yield server, recognizer


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("at /home/somebody/secret.py"), "internal_error"),
        (ModelError("/home/somebody/models: damaged"), "model_failed"),
        (MemoryError(), "internal_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_fails_within_is_told_without_paths_and_the_others_go_on(
    failing, caplog, error, code, stream
) -> None:
    server, recognizer = failing
    recognizer.error = error
    answer = post(server, **({"stream": "true"} if stream else {}))
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == code
    assert "somebody" not in answer.text
    assert answer.headers["x-request-id"] in caplog.text
    recognizer.error = None
    assert post(server).json()["text"] == SAID[CLIP.name]


def test_a_stream_that_fails_in_the_middle_ends_with_an_error(failing) -> None:
    server, recognizer = failing
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="x") as client:
        events = client.audio.transcriptions.create(
            file=LONG, model="x", stream=True, extra_body={"include": ["stt.progress"]}
        )
        next(iter(events))
        recognizer.error = RuntimeError("at /home/somebody/secret.py")
        with pytest.raises(openai.APIError, match="internal error") as raised:
            list(events)
    assert raised.value.code == "internal_error"
    recognizer.error = None
    assert post(server).status_code == 200


def test_a_model_that_cannot_be_loaded_is_told_and_tried_again(digits) -> None:
    outcomes: list[Exception | None] = [ModelError("/home/somebody/models: damaged"), None]

    def load() -> ModelTranscriber:
        if error := outcomes.pop(0):
            raise error
        return digits

    with running(load) as server, server.client() as client:
        assert client.get("/health").json()["status"] == "ok"  # it is loaded when it is needed
        answer = post(server)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
        assert answer.json()["error"]["code"] == "model_not_loaded"
        assert "somebody" not in answer.text
        told = client.get("/health")
        assert (told.status_code, told.json()["status"]) == (503, "failed")
        assert post(server).json()["text"] == SAID[CLIP.name]
        assert client.get("/health").json()["loaded"]


def test_when_nobody_asks_the_model_is_unloaded_and_comes_back(digits) -> None:
    with running(lambda: digits, idle_unload_s=0.2) as server, server.client() as client:
        assert post(server).status_code == 200
        until(lambda: not client.get("/health").json()["loaded"])
        assert client.get("/health").json()["status"] == "ok"
        assert post(server).json()["text"] == SAID[CLIP.name]
        assert client.get("/health").json()["loaded"]


def test_the_numbers_for_prometheus(digits) -> None:
    with running(lambda: digits) as server:
        post(server)
        assert post(server, LONG).status_code == 200
        found = metrics(server)
    for line in (
        'stt_requests_total{endpoint="/v1/audio/transcriptions",status="200"} 2.0',
        'stt_audio_seconds_total{priority="command"} 1.42',
        'stt_transcription_seconds_count{priority="file"} 1.0',
        "stt_waiting_utterances 0.0",
        "stt_model_loaded 1.0",
    ):
        assert line in found
    assert "process_resident_memory_bytes" in found
    assert "stt_rtfx" in found
