"""Realtime transcription sessions as clients see them, over the tests' real model."""

from __future__ import annotations

import asyncio
import base64
from itertools import pairwise

import av
import numpy as np
import openai
import pytest
import websockets

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


BETA = {"additional_headers": {"OpenAI-Beta": "realtime=v1"}}
BETA_PROTOCOLS = {"subprotocols": ["realtime", "openai-beta.realtime-v1"]}


@pytest.mark.parametrize("options", [BETA, BETA_PROTOCOLS])
def test_the_older_dialect_is_answered_in_it(server, texts, options) -> None:
    async def talk():
        async with talking(server, **options) as talker:
            await talker.until("transcription_session.created")
            session = {
                "input_audio_format": "pcm16",
                "input_audio_transcription": {"model": "whisper-1"},
                "turn_detection": {"type": "server_vad"},
                "include": ["item.input_audio_transcription.logprobs"],
            }
            await talker.say("transcription_session.update", session=session)
            told = await talker.until("transcription_session.updated")
            assert told["session"]["input_audio_format"] == "pcm16"
            await talker.append(said("four-digits"))
            await talker.until(COMPLETED)
            return talker

    talker = run(talk())
    talker.assert_typed(beta=True)
    assert talker.texts == [texts["four-digits"]]
    kinds = [event["type"] for event in talker.heard]
    assert kinds.count("conversation.item.created") == 1
    assert "conversation.item.added" not in kinds


def test_who_says_it_in_the_older_dialect_is_answered_so(server) -> None:
    async def talk():
        async with talking(server) as talker:
            await talker.until("session.created")
            await talker.say("transcription_session.update", session={"turn_detection": None})
            told = await talker.until("transcription_session.updated")
            assert told["session"]["turn_detection"] is None

    run(talk())


FORMATS = [
    ({"type": "audio/pcm", "rate": 8000}, 8000, None),
    ({"type": "audio/pcm", "rate": 16_000}, 16_000, None),
    ({"type": "audio/pcm", "rate": 48_000}, 48_000, None),
    ({"type": "audio/pcmu"}, 8000, "pcm_mulaw"),
    ({"type": "audio/pcma"}, 8000, "pcm_alaw"),
]


@pytest.mark.parametrize(("form", "rate", "codec"), FORMATS)
def test_formats_are_heard_as_a_file_of_them_is(server, model, form, rate, codec) -> None:
    data = pcm(said("eight-digits"), rate)
    samples = np.frombuffer(data, "<i2").astype(np.float32) / 32_768
    if codec:
        data = g711(data, codec)

    async def talk():
        async with talking(server) as talker:
            told = await talker.configure(format=form)
            assert told["audio"]["input"]["format"] == form
            for start in range(0, len(data), 999):  # within a sample, too
                await talker.append_bytes(data[start : start + 999])
            await talker.until(COMPLETED)
            talker.assert_typed()
            return talker.texts

    assert run(talk()) == [model.transcribe(samples, sample_rate=rate).text]


def g711(data: bytes, codec: str) -> bytes:
    context = av.CodecContext.create(codec, "w")
    context.sample_rate, context.layout, context.format = 8000, "mono", "s16"
    values = np.frombuffer(data, "<i2").reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(values), "s16", "mono")
    frame.sample_rate = 8000
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def test_the_page_hears_drafts_levels_and_words(server, texts) -> None:
    async def talk():
        async with talking(server) as talker:
            include = ("stt.draft", "stt.level", "stt.words")
            await talker.configure(include, format={"type": "audio/pcm", "rate": 16_000})
            await talker.append(said("eight-digits"), rate=16_000, pause_s=0.02)
            await talker.until(COMPLETED)
            talker.assert_typed()
            return talker

    talker = run(talk())
    drafts = talker.of("stt.draft")
    assert drafts
    text = texts["eight-digits"]
    for draft in drafts:
        said_then = "".join(
            event["delta"]
            for event in talker.heard[: talker.heard.index(draft)]
            if event["type"] == DELTA
        )
        assert draft["committed"] == said_then
        assert text.startswith(said_then)
    levels = talker.of("stt.level")
    assert len(levels) > 20
    assert max(level["speech"] for level in levels) > 0.8
    assert all(-100 <= level["rms_db"] <= level["peak_db"] + 0.1 for level in levels)
    assert all(a["at_s"] < b["at_s"] for a, b in pairwise(levels))
    (told,) = talker.of("stt.words")
    assert " ".join(word["word"] for word in told["words"]) == text
    assert told["start_s"] <= told["words"][0]["start"] < told["words"][-1]["end"] <= told["end_s"]
    assert talker.heard.index(told) < talker.heard.index(talker.of(COMPLETED)[0])


def test_what_is_cleared_is_not_heard(server, texts) -> None:
    async def talk():
        async with talking(server) as talker:
            await talker.configure(turn_detection=None)
            await talker.append(clip("eight-digits"))
            await talker.say("input_audio_buffer.clear")
            await talker.until("input_audio_buffer.cleared")
            await talker.append(said("four-digits"))
            await talker.commit()
            await talker.until(COMPLETED)
            talker.assert_typed()
            return talker.texts

    assert run(talk()) == [texts["four-digits"]]


def test_a_commit_of_nothing_is_an_error_and_the_session_lives_on(server, texts) -> None:
    async def talk():
        async with talking(server) as talker:
            await talker.say("input_audio_buffer.commit", event_id="mine")
            error = (await talker.until("error"))["error"]
            assert (error["code"], error["event_id"]) == ("input_audio_buffer_commit_empty", "mine")
            await talker.append(clip("four-digits"))
            await talker.commit()
            await talker.until(COMPLETED)
            talker.assert_typed()
            return talker.texts

    assert run(talk()) == [texts["four-digits"]]


def test_a_session_takes_so_much_audio_and_what_was_said_is_told(model, texts) -> None:
    async def talk(server):
        async with talking(server) as talker:
            await talker.append(said("four-digits", apart_s=0.3), piece_s=3)
            with pytest.raises(websockets.ConnectionClosed) as caught:
                await talker.until("never")
            assert caught.value.rcvd.code == 1008
            talker.assert_typed()
            return talker

    with running(lambda: model, max_audio_s=2.0) as server:
        talker = run(talk(server))
    assert talker.texts == [texts["four-digits"]]
    assert talker.of("error")[0]["error"]["code"] == "session_expired"


def test_a_server_that_ends_finishes_what_is_being_said(model, texts) -> None:
    async def talk(server, stop):
        async with talking(server) as talker:
            await talker.append(clip("four-digits"))
            await talker.until("input_audio_buffer.speech_started")
            stop()
            with pytest.raises(websockets.ConnectionClosed) as caught:
                await talker.until("never")
            assert caught.value.rcvd.code == 1001
            return talker

    with running(lambda: model) as server:
        talker = run(talk(server, server.stop.set))
    assert talker.texts == [texts["four-digits"]]


def test_the_key_may_be_a_subprotocol_and_the_other_is_echoed(model) -> None:
    async def protocol(server, *offered):
        async with talking(server, subprotocols=list(offered)) as talker:
            await talker.until("session.created")
            return talker.socket.subprotocol

    async def refused(server, **options):
        with pytest.raises(websockets.InvalidStatus) as caught:
            async with talking(server, **options):
                pass
        return caught.value.response.status_code

    with running(lambda: model, api_key="secret") as server:
        key = "openai-insecure-api-key.secret"
        assert run(protocol(server, "realtime", key)) == "realtime"
        assert run(refused(server)) == 401
        assert run(refused(server, subprotocols=["realtime", key + "x"])) == 401
        assert run(refused(server, origin="https://elsewhere.example")) == 403
        with_key = {"additional_headers": {"Authorization": "Bearer secret"}}
        assert run(refused(server, query="?intent=translation", **with_key)) == 400
