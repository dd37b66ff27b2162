"""Wyoming, spoken by the package `wyoming` itself over the tests' small real model."""

from __future__ import annotations

import asyncio
import json
import logging
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong

from stt.serve.wyoming_events import samples
from stt.transcriber import ModelTranscriber
from support.loading import load_model
from support.paths import CLIPS, DIGITS
from support.serving import Gated, Running, running

T = TypeVar("T")
RATE = 16_000
CLIP = min(CLIPS.glob("*.flac"))


@pytest.fixture(scope="module")
def digits() -> ModelTranscriber:
    return load_model(DIGITS, precision="fp32", provider="cpu")


@pytest.fixture(scope="module")
def server(digits: ModelTranscriber) -> Iterator[Running]:
    with running(lambda: digits, max_audio_s=60.0) as server:
        yield server


@pytest.fixture(scope="module")
def text(digits: ModelTranscriber) -> str:
    return digits.transcribe(str(CLIP)).text


@asynccontextmanager
async def client(server: Running) -> AsyncIterator[AsyncTcpClient]:
    async with AsyncTcpClient("127.0.0.1", server.wyoming) as found:
        yield found


def talk(server: Running, work: Callable[[AsyncTcpClient], Awaitable[T]]) -> T:
    async def run() -> T:
        async with client(server) as found:
            return await asyncio.wait_for(work(found), 30)

    return asyncio.run(run())


def pcm(path: Path, rate: int = RATE, width: int = 2, channels: int = 1) -> bytes:
    """A recording as bytes."""
    values, known = soundfile.read(path, dtype="float64")
    values = soxr.resample(values, known, rate) if known != rate else values
    values = np.repeat(np.clip(values, -1, 1 - 2**-15)[:, None], channels, axis=1).reshape(-1)
    if width == 1:
        return np.round(values * 127 + 128).astype(np.uint8).tobytes()
    whole = np.round(values * 2 ** (8 * width - 1)).astype("<i8")
    return b"".join(int(one).to_bytes(8, "little", signed=True)[:width] for one in whole)


async def said(
    one: AsyncTcpClient, data: bytes, rate: int = RATE, width: int = 2, channels: int = 1
) -> list[Event]:
    """Speak an utterance; returns all events to the last."""
    await one.write_event(AudioStart(rate, width, channels).event())
    for at in range(0, len(data), 3001):  # nor at the bounds of samples
        chunk = AudioChunk(rate, width, channels, data[at : at + 3001])
        await one.write_event(chunk.event())
    await one.write_event(AudioStop().event())
    return await answered(one)


async def answered(one: AsyncTcpClient) -> list[Event]:
    events: list[Event] = []
    while not events or not (
        TranscriptStop.is_type(events[-1].type) or Error.is_type(events[-1].type)
    ):
        event = await one.read_event()
        assert event is not None, events
        events.append(event)
    return events


def transcript(events: list[Event]) -> str:
    (found,) = [Transcript.from_event(one) for one in events if Transcript.is_type(one.type)]
    return found.text


def test_it_tells_what_it_is(server: Running) -> None:
    async def work(one: AsyncTcpClient) -> Info:
        await one.write_event(Describe().event())
        event = await one.read_event()
        assert event is not None
        return Info.from_event(event)

    (program,) = talk(server, work).asr
    (model,) = program.models
    assert program.supports_transcript_streaming
    assert {"en", "de", "uk"} <= set(model.languages)


def test_utterance_after_utterance_is_what_its_file_says(server: Running, text: str) -> None:
    async def work(one: AsyncTcpClient) -> list[list[Event]]:
        await one.write_event(Transcribe(language="en").event())
        return [await said(one, pcm(CLIP)) for _ in range(3)]

    for events in talk(server, work):
        assert transcript(events) == text
        assert TranscriptStart.is_type(events[0].type)
        chunks = [e.data["text"] for e in events if TranscriptChunk.is_type(e.type)]
        assert "".join(chunks) == text
        assert TranscriptStop.is_type(events[-1].type)


@pytest.mark.parametrize(
    ("rate", "width", "channels"),
    [(8000, 2, 1), (22_050, 2, 2), (44_100, 3, 2), (48_000, 4, 1), (16_000, 1, 1)],
)
def test_any_rate_width_and_channels(
    server: Running, text: str, rate: int, width: int, channels: int
) -> None:
    data = pcm(CLIP, rate, width, channels)
    events = talk(server, lambda one: said(one, data, rate, width, channels))
    found, expected = transcript(events).split(), text.split()
    assert sum(a != b for a, b in zip(found, expected, strict=False)) <= 1
    assert abs(len(found) - len(expected)) <= 1


@given(st.sampled_from([1, 2, 3, 4]), st.lists(st.floats(-1, 0.99), min_size=1, max_size=50))
def test_samples_of_every_width_come_back(width: int, values: list[float]) -> None:
    steps = [round(value * (2 ** (8 * width - 1) - 1)) for value in values]
    if width == 1:
        data = bytes(step + 128 for step in steps)
    else:
        data = b"".join(struct.pack("<q", step)[:width] for step in steps)
    found = samples(data, width) * 2 ** (8 * width - 1)
    np.testing.assert_allclose(found, steps, rtol=1e-6, atol=0.5 if width == 4 else 1e-3)


@pytest.mark.parametrize("data", [b"", bytes(2 * RATE)])
def test_an_utterance_without_speech_is_empty_and_the_connection_lives_on(
    server: Running, text: str, data: bytes
) -> None:
    async def work(one: AsyncTcpClient) -> tuple[list[Event], list[Event]]:
        return await said(one, data), await said(one, pcm(CLIP))

    empty, full = talk(server, work)
    assert transcript(empty) == ""
    assert transcript(full) == text


def test_a_stop_without_a_start_and_unknown_events_do_no_harm(server: Running, text: str) -> None:
    async def work(one: AsyncTcpClient) -> list[Event]:
        await one.write_event(Event("run-satellite"))
        await one.write_event(AudioStop().event())
        assert transcript(await answered(one)) == ""
        await one.write_event(Ping(text="here").event())
        pong = await one.read_event()
        assert pong is not None
        assert Pong.from_event(pong).text == "here"
        return await said(one, pcm(CLIP))

    assert transcript(talk(server, work)) == text


def test_what_cannot_be_honoured_is_in_the_log(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(one: AsyncTcpClient) -> list[Event]:
        asked = Transcribe(language="de", transcript_names=["Ada"], transcript_terms=["ohm"])
        await one.write_event(asked.event())
        return await said(one, pcm(CLIP))

    with caplog.at_level(logging.INFO, "stt.serve"):
        talk(server, work)
    assert "ignored: language, transcript_names, transcript_terms" in caplog.text


@pytest.mark.parametrize("form", [(0, 2, 1), (16_000, 5, 1), (16_000, 2, 0), (16_000, 2, 99)])
def test_a_format_that_there_is_not_is_an_error_and_the_next_is_heard(
    server: Running, text: str, form: tuple[int, int, int]
) -> None:
    async def work(one: AsyncTcpClient) -> list[Event]:
        await one.write_event(AudioStart(*form).event())
        (error,) = await answered(one)
        assert Error.from_event(error).code == "invalid_audio"
        return await said(one, pcm(CLIP))

    assert transcript(talk(server, work)) == text


def test_more_audio_than_is_taken_is_an_error(server: Running) -> None:
    async def work(one: AsyncTcpClient) -> list[Event]:
        await one.write_event(AudioStart(1000, 1, 1).event())
        await one.write_event(AudioChunk(1000, 1, 1, bytes(61_000)).event())
        return await answered(one)

    (error,) = talk(server, work)
    assert Error.from_event(error).code == "audio_too_long"


class Broken:
    """A recogniser that raises."""

    provider, streams, tells_words = "cpu", 1, True

    def recognize(self, batch: Any, speech: Any = ()) -> Any:
        from stt.errors import ModelError

        raise ModelError("the model /home/somebody/model is broken")


def test_a_model_that_fails_is_an_error_without_a_path(digits: ModelTranscriber) -> None:
    def load() -> ModelTranscriber:
        return replace(digits, recognizer=Broken())

    from stt.serve.engine import Engine
    from stt.serve.options import ServeOptions
    from stt.serve.service import Service
    from stt.serve.wyoming_server import WyomingServer

    async def run() -> list[Event]:
        service = Service(Engine(load), ServeOptions())
        server = await asyncio.start_server(WyomingServer(service).connected, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            async with AsyncTcpClient("127.0.0.1", port) as one:
                return [*await said(one, pcm(CLIP)), *await said(one, b"")]
        finally:
            server.close()
            await asyncio.to_thread(service.close)

    error, *rest = asyncio.run(run())
    assert Error.from_event(error).code == "model_failed"
    assert "/home" not in Error.from_event(error).text
    assert transcript(rest) == ""


@pytest.mark.parametrize("events", [0, 1, 3])
def test_who_leaves_in_the_middle_leaves_nothing_behind(
    server: Running, text: str, events: int
) -> None:
    async def leave() -> None:
        one = AsyncTcpClient("127.0.0.1", server.wyoming)
        await one.connect()
        sent = [AudioStart(RATE, 2, 1).event(), *[AudioChunk(RATE, 2, 1, pcm(CLIP)).event()] * 2]
        for event in sent[:events]:
            await one.write_event(event)
        await one.disconnect()

    for _ in range(5):
        asyncio.run(leave())
    assert transcript(talk(server, lambda one: said(one, pcm(CLIP)))) == text
    assert server.service.engine.waiting == 0


def test_who_leaves_while_it_waits_has_its_work_withdrawn(digits: ModelTranscriber) -> None:
    gated = Gated(digits.recognizer)

    async def run(server: Running) -> None:
        one = AsyncTcpClient("127.0.0.1", server.wyoming)
        await one.connect()
        await one.write_event(AudioStart(RATE, 2, 1).event())
        for at in range(0, len(data), 32_000):
            await one.write_event(AudioChunk(RATE, 2, 1, data[at : at + 32_000]).event())
        await one.write_event(AudioStop().event())
        assert await asyncio.to_thread(gated.begun.wait, 10)
        await asyncio.sleep(0.2)  # all of it is read
        await one.disconnect()
        await asyncio.sleep(1.0)  # it is looked for five times a second
        assert not server.service.engine.waiting
        gated.gate.set()

    data = pcm(CLIP) * 6
    cutting = replace(digits.cutting, max_utterance_s=5.0, batch_size=1)
    with running(lambda: replace(digits, recognizer=gated, cutting=cutting)) as server:
        gated.gate.set()
        server.service.engine.load()
        gated.gate.clear()
        gated.begun.clear()
        gated.lengths.clear()
        asyncio.run(run(server))
    assert 1 <= gated.taken < 3


def test_so_many_speak_at_once_and_no_more(server: Running, text: str) -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack:
            for _ in range(32):
                one = await stack.enter_async_context(client(server))
                await one.write_event(AudioStart(RATE, 2, 1).event())
                await one.write_event(Ping(text="").event())
                await one.read_event()
            late = await stack.enter_async_context(client(server))
            await late.write_event(AudioStart(RATE, 2, 1).event())
            (error,) = await answered(late)
            assert Error.from_event(error).code == "rate_limit_exceeded"

    asyncio.run(run())
    assert transcript(talk(server, lambda one: said(one, pcm(CLIP)))) == text


heads = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(["audio-start", "audio-chunk", "audio-stop", "transcribe", "ping", "x"]).map(
        lambda kind: json.dumps({"type": kind}).encode()
    ),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["audio-start", "audio-chunk", "transcribe", "describe", 3]),
            "data": st.one_of(
                st.none(),
                st.integers(),
                st.dictionaries(
                    st.sampled_from(["rate", "width", "channels", "text", "language"]),
                    st.one_of(st.none(), st.integers(-5, 1 << 70), st.text(max_size=5)),
                ),
            ),
            "data_length": st.sampled_from([None, 0, 3, -1, 1 << 40, "1", 2.5]),
            "payload_length": st.sampled_from([None, 0, 4, -7, 1 << 50]),
        }
    ).map(lambda values: json.dumps(values).encode()),
)
garbage = st.lists(st.tuples(heads, st.binary(max_size=8)), max_size=6).map(
    lambda parts: b"".join(head + b"\n" + rest for head, rest in parts)
)


def thrown(server: Running, data: bytes) -> None:
    """Send bytes, read what comes, leave."""

    async def run() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.wyoming)
        writer.write(data)
        writer.write_eof()
        with suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 30)
        writer.close()

    asyncio.run(run())


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(garbage)
def test_garbage_ends_its_own_connection_alone(server: Running, data: bytes) -> None:
    thrown(server, data)


@pytest.mark.slow
@settings(max_examples=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(garbage)
def test_10_000_times_garbage(server: Running, data: bytes) -> None:
    thrown(server, data)


def test_the_others_are_served_after_all_that(server: Running, text: str) -> None:
    assert transcript(talk(server, lambda one: said(one, pcm(CLIP)))) == text


def test_at_the_end_of_the_server_an_utterance_is_finished(
    digits: ModelTranscriber, text: str
) -> None:
    async def run() -> tuple[str, Event | None]:
        with running(lambda: digits) as server:
            async with client(server) as speaking, client(server) as idle:
                await speaking.write_event(AudioStart(RATE, 2, 1).event())
                await speaking.write_event(AudioChunk(RATE, 2, 1, pcm(CLIP)).event())
                await speaking.write_event(Ping(text="").event())
                await speaking.read_event()
                server.stop.set()
                left = await asyncio.wait_for(idle.read_event(), 10)
                await speaking.write_event(AudioStop().event())
                found = transcript(await asyncio.wait_for(answered(speaking), 10))
            return found, left

    assert asyncio.run(run()) == (text, None)
