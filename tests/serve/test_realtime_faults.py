"""Garbage, clients that leave, models that fail: the others are served on, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
from dataclasses import replace

import psutil
import pytest
import websockets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stt.errors import ModelError
from support.loading import load_model
from support.paths import DIGITS
from support.realtime import COMMITTED, COMPLETED, FAILED, clip, room, said, talking
from support.serving import gated, running, until
from support.tiny_tdt import add_collapsing, build


@pytest.fixture(scope="module")
def model():
    return load_model(DIGITS, provider="cpu", threads=1)


@pytest.fixture(scope="module")
def server(model):
    with running(lambda: model) as at:
        at.service.engine.load()
        yield at


def run(talk):
    return asyncio.run(asyncio.wait_for(talk, 280))


async def still_served(server) -> None:
    async with talking(server) as talker:
        await talker.append(clip("two-digits"))
        await talker.commit()
        await talker.until(COMPLETED)
        assert len(talker.texts[0].split()) == 2


# --- garbage ---------------------------------------------------------------------------------

WRONG = [
    ("", "invalid_json"),
    ("[]", "invalid_type"),
    ("[" * 100_000, "invalid_json"),
    ('{"type": ' + "1" * 5000 + "}", "invalid_json"),
    ("{}", "invalid_type"),
    ('{"type": ["a"]}', "invalid_type"),
    ('{"type": "response.create"}', "invalid_value"),
    ('{"type": "input_audio_buffer.append"}', "invalid_type"),
    ('{"type": "input_audio_buffer.append", "audio": "%%%%"}', "invalid_value"),
    ('{"type": "session.update"}', "invalid_type"),
    ('{"type": "session.update", "session": {"type": "realtime"}}', "invalid_value"),
    (b"\x00\x01", "invalid_value"),
]


@pytest.mark.parametrize(("message", "code"), WRONG)
def test_what_is_no_event_is_answered_by_an_error(server, message, code) -> None:
    async def talk():
        async with talking(server) as talker:
            await talker.socket.send(message)
            error = (await talker.until("error"))["error"]
            assert (error["type"], error["code"]) == ("invalid_request_error", code)
            assert error["message"]
            talker.assert_typed()
            await talker.append(clip("two-digits"))  # the session lives on
            await talker.commit()
            await talker.until(COMPLETED)

    run(talk())


NAMES = st.sampled_from(
    ["type", "session", "audio", "input", "format", "rate", "turn_detection", "include", "event_id"]
)
KINDS = st.sampled_from(
    [
        "session.update",
        "transcription_session.update",
        "input_audio_buffer.append",
        "input_audio_buffer.commit",
        "input_audio_buffer.clear",
        "transcription",
        "server_vad",
        "audio/pcm",
        "audio/pcmu",
        "AAAAAAAAAAAA",
    ]
)
VALUES = st.recursive(
    KINDS | st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=10,
)
EVENTS = st.dictionaries(NAMES, VALUES, max_size=4).map(json.dumps)
TYPED = st.builds(lambda event, kind: event | {"type": kind}, st.dictionaries(NAMES, VALUES), KINDS)
MESSAGES = TYPED.map(json.dumps) | EVENTS | st.text(max_size=30) | st.binary(max_size=30)


def fuzzed(server, messages: int) -> None:
    """Send so many messages, 25 in a session, and each time something is said in it then."""
    count = 0

    @settings(
        max_examples=max(1, messages // 25),
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(st.lists(MESSAGES, min_size=25, max_size=25))
    def send(batch) -> None:
        nonlocal count
        count += len(batch)
        run(_garbage(server, batch))

    send()
    assert count >= messages
    run(still_served(server))


async def _garbage(server, batch) -> None:
    async with talking(server) as talker:
        for message in batch:
            await talker.socket.send(message)
        await talker.say("response.create", event_id="last")
        while (await talker.until("error"))["error"]["event_id"] != "last":
            pass


def test_no_garbage_ends_a_session(server) -> None:
    fuzzed(server, 300)


@pytest.mark.slow
def test_no_garbage_ends_a_session_of_ten_thousand_messages(server) -> None:
    fuzzed(server, 10_000)


# --- models that fail ------------------------------------------------------------------------


def test_a_model_that_does_not_load_is_told_without_a_path() -> None:
    def load():
        raise ModelError("/secret/place/model: damaged; run `stt setup`")

    async def talk(server):
        async with talking(server) as talker:
            await talker.append(clip("four-digits"))
            await talker.commit()
            error = (await talker.until("error"))["error"]
            assert (error["type"], error["code"]) == ("server_error", "model_not_loaded")
            failed = await talker.until(FAILED)
            assert failed["item_id"] == talker.of(COMMITTED)[0]["item_id"]
            assert "secret" not in json.dumps(talker.heard)
            talker.assert_typed()

    with running(load) as server:
        run(talk(server))


def test_a_precision_that_is_left_is_told(tmp_path) -> None:
    folder = build(tmp_path / "tiny")
    add_collapsing(folder)
    model = load_model(folder, provider="cpu", precision="fp16")

    async def talk(server):
        async with talking(server) as talker:
            await talker.append(clip("four-digits"))
            await talker.commit()
            assert (await talker.until(COMPLETED))["transcript"].startswith("go go")
            return talker.of("stt.problem")

    with running(lambda: model) as server:
        (problem,) = run(talk(server))
    assert problem["kind"] == "fallback"
    assert "goes on in fp32" in problem["message"]


def test_a_model_that_gives_nan_fails_the_item_and_the_next_is_tried(model, tmp_path) -> None:
    folder = build(tmp_path / "tiny")
    add_collapsing(folder)
    broken = load_model(folder, provider="cpu", precision="fp16")

    async def talk(server):
        async with talking(server) as talker:
            for _ in range(2):
                await talker.append(clip("four-digits"))
                await talker.commit()
            await talker.until(FAILED, 2)
            talker.assert_typed()
            return talker

    with running(lambda: replace(model, recognizer=broken.recognizer)) as server:
        talker = run(talk(server))
    assert not talker.of(COMPLETED)
    assert {event["error"]["type"] for event in talker.of(FAILED)} == {"server_error"}


# --- clients that leave ----------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["connected", "speaking", "waiting", "sending much"])
def test_who_leaves_takes_nothing_from_the_others(model, stage) -> None:
    """`waiting`: for a text that is being worked out."""

    async def leave(server, recognizer):
        async with talking(server) as talker:
            if stage == "speaking":
                await talker.append(clip("eight-digits")[:16_000])
                await talker.until("input_audio_buffer.speech_started")
            elif stage == "waiting":
                await talker.append(said("two-digits"))
                await talker.until(COMMITTED)
                await asyncio.to_thread(recognizer.begun.wait, 10)
            elif stage == "sending much":
                many = asyncio.create_task(talker.append(room(60), piece_s=5))
                await asyncio.sleep(0.05)
                many.cancel()
            talker.socket.transport.abort()

    with gated(model) as (server, recognizer):
        run(leave(server, recognizer))
        until(lambda: server.service.sockets.count == 0)
        recognizer.gate.set()
        run(still_served(server))
        assert server.service.engine.waiting == 0


def test_a_client_that_sends_much_faster_than_it_is_heard_is_not_thought_dead(model) -> None:
    """Nor thinks so of the server: its pings come behind all that it sends."""

    async def talk(server, recognizer):
        async with talking(server, ping_interval=0.2, ping_timeout=0.5) as talker:
            await talker.append(said(*["two-digits"] * 12))
            await talker.append(room(30))
            await asyncio.sleep(1)
            recognizer.gate.set()
            await talker.until(COMPLETED, 12)

    with gated(model) as (server, recognizer):
        run(talk(server, recognizer))


def test_a_client_that_does_not_listen_is_let_go(model, monkeypatch) -> None:
    monkeypatch.setattr("stt.serve.realtime._MOST_UNSENT", 300)

    async def talk(server):
        url = f"{server.socket_url}/v1/realtime"
        async with websockets.connect(url, proxy=None, max_queue=1, close_timeout=0.1) as socket:
            socket.transport.pause_reading()
            with pytest.raises(websockets.ConnectionClosed):
                while True:
                    await socket.send("x" * 1000)

    with running(lambda: model) as server:
        run(talk(server))
        until(lambda: server.service.sockets.count == 0)
        run(still_served(server))


@pytest.mark.slow
def test_what_is_not_done_when_the_server_has_ended_is_cut(model) -> None:
    async def talk(server):
        async with talking(server) as talker:
            await talker.append(said("two-digits"))
            await talker.until(COMMITTED)
            server.stop.set()
            with pytest.raises(websockets.ConnectionClosed) as caught:
                await talker.until("never")
            return caught.value.rcvd.code

    with gated(model) as (server, recognizer):
        assert run(talk(server)) == 1012
        recognizer.gate.set()


def opened_and_dropped(server, sessions: int) -> None:
    """Nothing that the process has is more after them than before."""
    process = psutil.Process()

    async def one(number: int) -> None:
        async with talking(server) as talker:
            await talker.append(clip("two-digits"))
            if number % 3 == 0:
                await talker.until("input_audio_buffer.speech_started")
            if number % 3 == 1:
                await talker.commit()
                await talker.until(COMPLETED)
            if number % 2:
                talker.socket.transport.abort()

    async def many(count: int) -> None:
        for start in range(0, count, 20):
            await asyncio.gather(*(one(number) for number in range(start, start + 20)))

    def counted() -> tuple[int, int, int, int]:
        until(lambda: server.service.sockets.count == 0)
        until(lambda: server.service.engine.waiting == 0)
        time.sleep(0.1)
        gc.collect()
        objects = len(gc.get_objects())
        return threading.active_count(), process.num_fds(), objects, process.memory_info().rss

    run(many(sessions))  # the system's allocator takes its time to have enough
    threads, handles, objects, memory = counted()
    run(many(sessions))
    after = counted()
    assert after[0] <= threads
    assert after[1] <= handles + 2
    assert after[2] <= objects + 100
    assert after[3] <= memory + 50_000_000


def test_sessions_leave_nothing_behind(server) -> None:
    opened_and_dropped(server, 20)


@pytest.mark.slow
def test_two_hundred_sessions_leave_nothing_behind(server) -> None:
    opened_and_dropped(server, 200)
