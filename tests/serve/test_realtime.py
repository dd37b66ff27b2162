"""Realtime transcription sessions as clients see them, over the tests' real model."""

from __future__ import annotations

import asyncio
import base64

import numpy as np
import openai
import pytest

from stt.streaming.stream import live
from support.live_fakes import blocks, text_of
from support.loading import load_model
from support.paths import DIGITS
from support.realtime import COMMITTED, COMPLETED, DELTA, clip, pcm, room, said, talking
from support.serving import running

NAMES = ("eight-digits", "four-digits")


@pytest.fixture(scope="module")
def model():
    return load_model(DIGITS, provider="cpu", threads=1)


@pytest.fixture(scope="module")
def server(model):
    with running(lambda: model) as at:
        at.service.engine.load()
        yield at


@pytest.fixture(scope="module")
def texts(model):
    """What `stt transcribe` makes of each clip."""
    return {
        path.stem: model.transcribe(clip(path.stem), sample_rate=16_000).text
        for path in (DIGITS / "clips").glob("*.flac")
    }


def run(talk):
    return asyncio.run(asyncio.wait_for(talk, 60))


def test_the_openai_client_hears_what_is_said_while_it_is_said(server, texts) -> None:
    async def talk():
        client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="x")
        heard = []
        async with (
            client,
            client.realtime.connect(extra_query={"intent": "transcription"}) as connection,
        ):

            async def speak():
                await connection.session.update(
                    session={
                        "type": "transcription",
                        "audio": {"input": {"transcription": {"model": "whisper-1"}}},
                        "include": ["item.input_audio_transcription.logprobs"],
                    }
                )
                data = pcm(said(*NAMES), 24_000)
                for start in range(0, len(data), 4800):
                    piece = base64.b64encode(data[start : start + 4800]).decode()
                    await connection.input_audio_buffer.append(audio=piece)

            speaking = asyncio.create_task(speak())
            async for event in connection:
                heard.append(event)
                if [one.type for one in heard].count(COMPLETED) == len(NAMES):
                    break
            await speaking
        return heard

    heard = run(talk())
    assert [one.type for one in heard[:2]] == ["session.created", "session.updated"]
    done = [one for one in heard if one.type == COMPLETED]
    assert [one.transcript for one in done] == [texts[name] for name in NAMES]
    for one in done:
        of_it = [event for event in heard if getattr(event, "item_id", None) == one.item_id]
        assert "".join(event.delta for event in of_it if event.type == DELTA) == one.transcript
        assert [event.type for event in of_it if event.type != DELTA] == [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            COMMITTED,
            COMPLETED,
        ]
        start, end = of_it[0].audio_start_ms, of_it[1].audio_end_ms
        assert one.usage.seconds == pytest.approx((end - start) / 1000, abs=0.002)
        assert "".join(token.token for token in one.logprobs) == one.transcript
        assert all(token.logprob <= 0 for token in one.logprobs)
    items = [one.item for one in heard if one.type == "conversation.item.added"]
    assert [item.id for item in items] == [one.item_id for one in done]
    previous = [one.previous_item_id for one in heard if one.type == "conversation.item.done"]
    assert previous == [None, done[0].item_id]


def test_it_is_what_stt_live_hears(server, model) -> None:
    stream = said("eight-digits", "five-digits-rp", "four-digits")

    async def talk():
        async with talking(server) as talker:
            await talker.append(stream)
            await talker.until(COMPLETED, 3)
            return talker.texts

    assert " ".join(run(talk())) == text_of(live(blocks(stream), model, 16_000))


def test_words_come_while_one_speaks(server, texts) -> None:
    async def talk():
        async with talking(server) as talker:
            await talker.append(said("eight-digits"), pause_s=0.03)
            await talker.until(COMPLETED)
            return talker

    talker = run(talk())
    kinds = [event["type"] for event in talker.heard]
    assert kinds.index(DELTA) < kinds.index("input_audio_buffer.speech_stopped")
    assert kinds.count(DELTA) > 1
    assert talker.texts == [texts["eight-digits"]]


@pytest.mark.parametrize("names", [("four-digits",), NAMES])
def test_the_client_commits_one_item(server, texts, names) -> None:
    """Of one sentence or two, with and without silence round them."""

    async def talk():
        async with talking(server) as talker:
            told = await talker.configure(turn_detection=None)
            assert told["audio"]["input"]["turn_detection"] is None
            for stream in (
                said(*names),
                np.concatenate([room(0.7), said(*names)]),
                said(*names)[: -round(1.2 * 16_000)],
            ):
                await talker.append(stream)
                await talker.commit()
            await talker.until(COMPLETED, 3)
            return talker

    talker = run(talk())
    assert talker.texts == [" ".join(texts[name] for name in names)] * 3
    assert len(talker.of(COMMITTED)) == 3
    assert not talker.of("input_audio_buffer.speech_started")
