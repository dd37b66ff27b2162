"""Who is let in, and what is answered to whoever asks for nothing that is there."""

from __future__ import annotations

import contextlib
import socket

import openai
import pytest

from support.loading import load_model
from support.paths import DIGITS
from support.serving import running

KEY = "s3cret-kéy"


@pytest.fixture(scope="module")
def server():
    with running(
        lambda: load_model(DIGITS), api_key=KEY, origins=("https://friend.example",)
    ) as at:
        at.service.engine.load()
        yield at


def ask(server, path="/v1/models", key=KEY, method="GET", **headers):
    named = {"authorization": f"Bearer {key}".encode()} if key else {}
    with server.client() as client:
        return client.request(method, path, headers=named | headers)


@pytest.mark.parametrize("key", [None, "wrong", KEY + "x", ""])
@pytest.mark.parametrize("path", ["/v1/models", "/v1/nothing"])
def test_without_the_key_nothing_below_v1_answers(server, key, path) -> None:
    answer = ask(server, path, key)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert answer.headers["www-authenticate"] == "Bearer"


def test_health_is_open_and_tells_more_to_who_knows_the_key(server) -> None:
    assert ask(server, "/health", None).json() == {"status": "ok", "api_key_required": True}
    assert ask(server, "/health").json()["model"] == DIGITS.name


def test_the_client_knows_what_a_wrong_key_means(server) -> None:
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError, match="needs its key"),
    ):
        stranger.models.list()


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/models/gpt-5", 404, "model_not_found"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/audio/transcriptions", 405, "method_not_allowed"),
        ("GET", "/../../etc/passwd", 404, "not_found"),
    ],
)
def test_errors_are_openais_objects(server, method, path, status, code) -> None:
    answer = ask(server, path, method=method)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["type"]) == (code, "invalid_request_error")
    assert answer.headers["x-request-id"].startswith("req_")


def test_pages_of_other_hosts_are_let_in_where_they_are_named(server) -> None:
    assert ask(server, origin="https://enemy.example").status_code == 403
    assert ask(server, origin="null").status_code == 403
    assert ask(server, origin=server.url).status_code == 200
    friend = ask(server, origin="https://friend.example")
    assert friend.status_code == 200
    assert friend.headers["access-control-allow-origin"] == "https://friend.example"


def test_a_large_body_that_is_refused_can_be_sent_and_the_answer_read(server) -> None:
    with server.client() as client:
        answer = client.post("/v1/models", content=b"x" * 20_000_000)
    assert answer.status_code == 401


def test_who_waits_for_leave_to_send_is_answered_at_once(server) -> None:
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    with contextlib.closing(socket.create_connection(address, timeout=3)) as client:
        client.sendall(
            b"POST /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert client.recv(1000).startswith(b"HTTP/1.1 401")
