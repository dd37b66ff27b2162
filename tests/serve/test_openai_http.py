"""What OpenAI's own client has of `stt serve`, over the digits model."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator

import openai
import pytest
import soundfile
import webvtt
from openai.types.audio import TranscriptionTextDeltaEvent, TranscriptionTextDoneEvent

from stt.transcriber import ModelTranscriber
from support.command import SAID
from support.loading import load_model
from support.paths import CLIPS, DIGITS
from support.serving import Running, running

CLIP = "five-digits-pause.flac"
SECONDS = soundfile.info(CLIPS / CLIP).duration


@pytest.fixture(scope="module")
def digits() -> ModelTranscriber:
    return load_model(DIGITS)


@pytest.fixture(scope="module")
def server(digits) -> Iterator[Running]:
    with running(lambda: digits) as at:
        yield at


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def clip(name: str = CLIP) -> tuple[str, bytes]:
    return name, (CLIPS / name).read_bytes()


def transcribed(client: openai.OpenAI, **more):
    return client.audio.transcriptions.create(**{"file": clip(), "model": "whisper-1"} | more)


def raw(client: openai.OpenAI, **more):
    create = client.audio.transcriptions.with_raw_response.create
    return create(**{"file": clip(), "model": "whisper-1"} | more)


@pytest.mark.parametrize("name", sorted(SAID))
def test_json_is_what_the_command_line_writes(client, digits, name) -> None:
    found = transcribed(client, file=clip(name))
    assert found.text == digits.transcribe(CLIPS / name).text
    assert found.usage.type == "duration"
    assert found.usage.seconds == pytest.approx(soundfile.info(CLIPS / name).duration, abs=0.01)
    assert found.logprobs is None


def test_json_with_logprobs_has_the_text_token_by_token(client) -> None:
    found = transcribed(client, include=["logprobs"])
    assert "".join(one.token for one in found.logprobs) == found.text
    for one in found.logprobs:
        assert bytes(map(int, one.bytes)).decode() == one.token
        assert -1 < one.logprob <= 0


def test_text(client) -> None:
    assert transcribed(client, response_format="text") == f"{SAID[CLIP]}\n"


def test_subtitles_can_be_read_by_other_programs(client, tmp_path) -> None:
    for form, read in (("vtt", webvtt.read), ("srt", webvtt.from_srt)):
        path = tmp_path / f"a.{form}"
        path.write_text(transcribed(client, response_format=form), "utf-8")
        cues = list(read(path))
        assert " ".join(cue.text for cue in cues) == SAID[CLIP]
        assert cues[-1].end_in_seconds <= SECONDS + 0.01


@pytest.mark.parametrize(
    ("granularities", "has_segments", "has_words"),
    [
        *((None, True, False), (["segment"], True, False)),
        *((["word"], False, True), (["word", "segment"], True, True)),
    ],
)
def test_verbose_json_has_what_is_asked_for(client, granularities, has_segments, has_words) -> None:
    more = {} if granularities is None else {"timestamp_granularities": granularities}
    found = transcribed(client, response_format="verbose_json", **more)
    assert (found.text, found.language) == (SAID[CLIP], "und")
    assert found.duration == pytest.approx(SECONDS, abs=0.01)
    assert found.usage.seconds == found.duration
    assert (found.segments is not None, found.words is not None) == (has_segments, has_words)
    if has_words:
        assert [word.word for word in found.words] == SAID[CLIP].split()
        times = [time for word in found.words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert 0 < times[0] < times[-1] < SECONDS
    for number, segment in enumerate(found.segments or []):
        assert segment.id == number
        assert 0 <= segment.start < segment.end <= SECONDS
        assert segment.seek == round(segment.start * 100)
        assert -1 < segment.avg_logprob <= 0
        assert segment.compression_ratio > 0
        assert (segment.temperature, segment.no_speech_prob, segment.tokens) == (0, 0, [])
    if has_segments:
        assert " ".join(segment.text for segment in found.segments) == found.text


def test_a_stream_has_deltas_that_are_the_text_and_one_end(client) -> None:
    events = list(transcribed(client, stream=True, include=["logprobs"]))
    *deltas, done = events
    assert all(isinstance(one, TranscriptionTextDeltaEvent) for one in deltas)
    assert isinstance(done, TranscriptionTextDoneEvent)
    assert "".join(one.delta for one in deltas) == done.text == SAID[CLIP]
    tokens = [token.token for one in deltas for token in one.logprobs]
    assert "".join(tokens) == done.text
    assert done.usage.type == "tokens"
    assert done.usage.input_tokens == math.ceil(SECONDS * 10)
    assert done.usage.output_tokens == len(SAID[CLIP].split())


def test_our_own_events_come_where_they_are_asked_for(client) -> None:
    names = ["stt.progress", "stt.segments", "stt.transcript"]
    with client.audio.transcriptions.with_streaming_response.create(
        file=clip(), model="x", stream=True, include=names
    ) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        lines = [line for line in answer.iter_lines() if line]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    segments = [one["segment"] for one in events if one["type"] == "stt.segment"]
    assert [word["word"] for one in segments for word in one["words"]] == SAID[CLIP].split()
    heard = [one["heard_s"] for one in events if one["type"] == "stt.progress"]
    assert heard == sorted(heard)
    assert heard[-1] == pytest.approx(SECONDS, abs=0.1)
    transcript, done = events[-2:]
    assert transcript["type"] == "stt.transcript"
    assert transcript["transcript"]["source"] == CLIP
    assert transcript["transcript"]["text"] == done["text"]


def test_what_ran_is_told_and_what_cannot_be_honoured(client) -> None:
    headers = raw(client).headers
    assert headers["x-stt-model"] == DIGITS.name
    assert (headers["x-stt-precision"], headers["x-stt-provider"]) == ("fp32", "cpu")
    assert "x-stt-ignored" not in headers
    answer = raw(
        client,
        model="a model of another house",
        language="de",
        prompt="digits",
        keywords=["seven"],
        languages=["de", "en"],
        temperature=0.4,
        chunking_strategy={"type": "server_vad", "threshold": 0.4},
        known_speaker_names=["Ann"],
        include=["logprobs"],
        response_format="verbose_json",
        timestamp_granularities=["word"],
        extra_body={"vad filter": "yes", "hotwords": "seven"},
    )
    ignored = set(answer.headers["x-stt-ignored"].split(", "))
    assert ignored == {
        *("language", "prompt", "keywords", "temperature", "chunking_strategy"),
        *("known_speaker_names", "include.logprobs", "hotwords", "a-field-with-another-name"),
    }
    assert answer.parse().text == SAID[CLIP]


def test_what_is_honoured_is_not_told_as_ignored(client) -> None:
    answer = raw(client, temperature=0, chunking_strategy="auto", prompt="")
    assert "x-stt-ignored" not in answer.headers


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "xml"}, "response_format"),
        ({"response_format": "diarized_json"}, "response_format"),
        ({"timestamp_granularities": ["sentence"]}, "timestamp_granularities"),
        ({"extra_body": {"temperature": "warm"}}, "temperature"),
        ({"extra_body": {"stream": "perhaps"}}, "stream"),
        ({"file": ("a.wav", b"no sound")}, "file"),
        ({"file": ("a.wav", b"")}, "file"),
    ],
)
def test_what_cannot_be_is_an_error_object_that_names_the_field(client, fields, param) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        transcribed(client, **fields)
    assert raised.value.param == param
    assert raised.value.type == "invalid_request_error"
    assert "/" not in raised.value.message  # no path


def test_it_does_not_translate_and_says_so(client) -> None:
    create = client.audio.translations.create  # deprecated by its makers
    with pytest.deprecated_call(), pytest.raises(openai.BadRequestError, match="does not trans"):
        create(file=clip(), model="whisper-1")


def test_models(client) -> None:
    names = [model.id for model in client.models.list()]
    assert names[0] == DIGITS.name
    assert "whisper-1" in names
    for name in names:
        assert client.models.retrieve(name).id == name
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-5")


def test_the_async_client_has_many_answers_at_once(server, digits) -> None:
    async def run() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any") as client:
            create = client.audio.transcriptions.create
            found = await asyncio.gather(
                *(create(file=clip(name), model="whisper-1") for name in sorted(SAID))
            )
            events = await create(file=clip(), model="whisper-1", stream=True)
            text = "".join([one.delta async for one in events if "delta" in one.type])
        return [*(one.text for one in found), text]

    *texts, streamed = asyncio.run(run())
    assert texts == [digits.transcribe(CLIPS / name).text for name in sorted(SAID)]
    assert streamed == SAID[CLIP]
