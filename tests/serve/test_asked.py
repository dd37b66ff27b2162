"""What a form asks for, and what of it is told as ignored with models of other kinds."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt.serve.answers import answer
from stt.serve.asked import Asked
from stt.serve.engine import Served
from stt.serve.problems import Problem
from stt.streaming.jobs import Pace
from stt.text.transcript import Transcript
from stt.transcript import DEFAULT_STYLE, Choice, Segment, Word

CHOICE = Choice("fp32", "cpu", "")
PARAKEET = Served(
    model="parakeet",
    choice=CHOICE,
    language=None,
    tells_words=True,
    streams=2,
    pace=Pace(),
    english_only=False,
    speed=None,
)
STARTER = replace(PARAKEET, model="starter", language="en", tells_words=False)


def asked(**fields: str) -> Asked:
    return Asked.of({name.replace("_B", "[]"): (value,) for name, value in fields.items()})


@pytest.mark.parametrize(
    ("fields", "by_parakeet", "by_starter"),
    [
        ({}, "", ""),
        ({"language": "en"}, "language", ""),
        ({"language": "English"}, "language", ""),
        ({"language": "de"}, "language", "language"),
        ({"languages_B": "en"}, "language", ""),
        (
            {"timestamp_granularities_B": "word", "response_format": "verbose_json"},
            "",
            "timestamp_granularities.word",
        ),
        ({"timestamp_granularities_B": "word"}, *["timestamp_granularities"] * 2),
        ({"include_B": "logprobs"}, "", "include.logprobs"),
        ({"include_B": "logprobs", "stream": "true"}, "", "include.logprobs"),
        ({"include_B": "logprobs", "response_format": "text"}, *["include.logprobs"] * 2),
        ({"include_B": "stt.progress", "stream": "1"}, "", ""),
        ({"include_B": "stt.progress"}, *["include.stt.progress"] * 2),
        ({"stream": "true", "response_format": "srt"}, *["response_format"] * 2),
        ({"temperature": "0.0"}, "", ""),
        ({"temperature": "nan"}, *["temperature"] * 2),
        ({"chunking_strategy": "auto"}, "", ""),
        ({"chunking_strategy[type]": "server_vad"}, *["chunking_strategy"] * 2),
        ({"prompt": "  "}, "", ""),
        ({"prompt": "Hi", "x\r\nset-cookie": "1"}, *["prompt, a-field-with-another-name"] * 2),
    ],
)
def test_what_cannot_be_honoured_is_named(fields, by_parakeet, by_starter) -> None:
    one = asked(**fields)
    assert ", ".join(one.ignored(PARAKEET)) == by_parakeet
    assert ", ".join(one.ignored(STARTER)) == by_starter


VALUES = st.sampled_from(
    ["", " ", "true", "word", "segment", "json", "srt", "verbose_json", "0", "-1e400", "x" * 99]
) | st.text(max_size=8)
NAMES = st.sampled_from(
    [
        *("model", "language", "response_format", "stream", "temperature", "include[]"),
        *("include", "timestamp_granularities[]", "chunking_strategy[type]", "prompt", "[]", ""),
    ]
) | st.text(max_size=8)


@given(st.dictionaries(NAMES, st.lists(VALUES, max_size=3).map(tuple), max_size=8))
def test_any_form_is_read_or_a_field_of_it_is_named(fields) -> None:
    try:
        one = Asked.of(fields)
    except Problem as problem:
        assert problem.status == 400
        assert problem.param
        return
    for served in (PARAKEET, STARTER, None):
        header = ", ".join(one.ignored(served))
        assert header.isascii()
        assert header.isprintable()
        assert len(header) < 1000


def test_a_model_without_word_times_has_segments_and_its_language() -> None:
    transcript = Transcript(
        "a", 2.0, (Segment(0.5, 1.5, "Hello there.", 0.5),), "starter", CHOICE, 0.1, None, "en"
    )
    fields = {"response_format": "verbose_json", "timestamp_granularities": "word,segment"}
    found = json.loads(answer(transcript, asked(**fields), DEFAULT_STYLE).body)
    assert (found["language"], found["words"]) == ("english", [])
    assert [one["text"] for one in found["segments"]] == ["Hello there."]
    assert found["segments"][0]["avg_logprob"] == pytest.approx(-0.693, abs=0.001)
    found = json.loads(answer(transcript, asked(), DEFAULT_STYLE).body)
    assert found["languages"] == [{"code": "en"}]


def test_nothing_said_is_an_empty_text_in_each_form() -> None:
    nothing = Transcript("a", 2.0, (), "m", CHOICE, 0.1)
    for form, body in (("text", b"\n"), ("srt", b""), ("vtt", b"WEBVTT\n")):
        assert answer(nothing, asked(response_format=form), DEFAULT_STYLE).body == body
    found = json.loads(answer(nothing, asked(response_format="verbose_json"), DEFAULT_STYLE).body)
    assert (found["text"], found["segments"], found["stt"]) == ("", [], {"coverage": None})


def test_a_probability_of_nothing_has_a_logarithm() -> None:
    segment = Segment(0, 1, "a", 0.0, (Word(0, 1, "a", 0.0),))
    transcript = Transcript("a", 2.0, (segment,), "m", CHOICE, 0.1)
    found = json.loads(answer(transcript, asked(include="logprobs"), DEFAULT_STYLE).body)
    assert found["logprobs"][0]["logprob"] < -20
