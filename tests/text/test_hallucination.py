"""Words made up over silence, text that is doubted, and speech in another language."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt.audio.utterances import Utterance
from stt.audio.vad import FRAME
from stt.pipeline import Step
from stt.text.hallucination import (
    LITTLE_CLEAR_S,
    NOT_ENGLISH,
    Evidence,
    Likelihood,
    doubt,
    without_invented,
)
from stt.text.words import segments, words
from stt.transcriber import ModelTranscriber, TranscriptBuilder
from stt.transcript import Coverage, Segment, Token, Word
from stt.types import SAMPLE_RATE, Samples
from support.loading import load_model
from support.paths import DIGITS, SHARED

AUDIO = SHARED / "audio"
FRAME_S = FRAME / SAMPLE_RATE


def utterance(speech: list[float], level: float = -60.0) -> Utterance:
    """As many frames of 32 ms, with these probabilities of speech."""
    samples = np.zeros(len(speech) * FRAME, np.float32)
    return Utterance(0, samples, heard=tuple((p, level) for p in speech))


def word(text: str, start: float, burst_at: float | None = None) -> Word:
    return Word(start, start + 0.3, text, 0.9, burst_at)


def left(spoken: list[Word], heard: Utterance) -> tuple[list[str], int]:
    kept, dropped = without_invented(segments(spoken), heard)
    return [word.text for segment in kept for word in segment.words], dropped


SILENCE_THEN_SPEECH = [0.02] * 100 + [0.95] * 100


def test_a_burst_over_silence_goes_and_is_counted() -> None:
    spoken = [word("Mm-hmm.", 1.0, burst_at=1.0), word("good", 4.0), word("day", 4.5, 4.5)]
    assert left(spoken, utterance(SILENCE_THEN_SPEECH)) == (["good", "day"], 1)


def test_what_takes_time_or_sounds_stays() -> None:
    heard = utterance(SILENCE_THEN_SPEECH)
    assert left([word("slow", 1.0)], heard) == (["slow"], 0)  # its tokens lie apart
    near = 100 * FRAME_S - 0.3
    assert left([word("early", near, near)], heard) == (["early"], 0)  # speech begins soon after
    assert left([word("said", 4.0, 4.0)], heard) == (["said"], 0)


def test_the_last_word_may_come_late() -> None:
    heard = utterance([0.95] * 100 + [0.02] * 15)
    at = len(heard.samples) / SAMPLE_RATE
    assert left([word("end.", at - 0.1, at)], heard) == (["end."], 0)
    assert left([word("after.", at, at + 0.4)], heard) == (["after."], 0)  # in silence put there


def test_where_nobody_listened_nothing_goes() -> None:
    blind = Utterance(0, np.zeros(100 * FRAME, np.float32))
    assert left([word("Yeah.", 1.0, 1.0)], blind) == (["Yeah."], 0)


def test_segments_that_lose_nothing_are_the_same() -> None:
    without_words = Segment(0.0, 1.0, "what a starter says", 0.8)
    kept = [without_words, *segments([word("fine.", 4.0)])]
    assert without_invented(kept, utterance(SILENCE_THEN_SPEECH)) == (kept, 0)


def test_words_know_their_burst() -> None:
    tokens = [
        Token(1, " go", 10, 2, -0.1),
        Token(2, "od", 12, 2, -0.1),
        Token(3, " Yeah", 50, 0, -0.1),
        Token(4, ".", 50, 0, -0.1),
        Token(5, " I", 60, 1, -0.1),
    ]
    found = words(tokens, 0.08, 10.0)
    assert [one.burst_at for one in found] == [None, 4.0, None]


@given(st.lists(st.floats(0.0, 1.0), min_size=60, max_size=200), st.floats(0.0, 6.0))
def test_only_certain_silence_takes_a_word(speech: list[float], at: float) -> None:
    heard = utterance(speech)
    _, dropped = left([word("Yeah.", at, at)], heard)
    first, last = max(0, int((at - 0.32) / FRAME_S)), int((at + 0.32) / FRAME_S) + 1
    around = speech[first:last]
    assert dropped == (last <= len(speech) and max(around, default=1.0) < 0.15)


def believed(segments_: list[Segment], speech: list[float], level: float = -40.0) -> list[str]:
    kept, dropped = without_invented(segments_, utterance(speech, level))
    assert dropped == sum(len(s.text.split()) for s in segments_ if s not in kept)
    return [segment.text for segment in kept]


NOISE = [0.63, 0.6, 0.58, 0.51, *[0.1] * 96]
"""What the VAD hears where a recording begins with noise: four frames of speech, then none."""


def test_what_noise_at_the_start_is_taken_for_goes() -> None:
    said = [Segment(0.0, 0.84, "Thank you.", 0.404)]
    assert believed(said, NOISE) == []
    assert believed(said, [0.02] * 100) == []  # with --no-vad noise need not sound like speech
    assert believed([Segment(0.0, 0.84, "Thank you.", 0.5)], NOISE) == ["Thank you."]


def test_an_improbable_text_over_speech_stays() -> None:
    said = [Segment(0.0, 0.5, "eight", 0.2)]
    assert believed(said, [*[0.02] * 5, *[0.7] * 5, *[0.02] * 90]) == ["eight"]
    assert believed(said, [*[0.02] * 5, *[0.7] * 4, *[0.02] * 91]) == []


def test_of_noise_and_then_speech_the_speech_stays() -> None:
    said = [Segment(0.0, 2.0, "you", 0.2), Segment(3.3, 6.0, "Good morning.", 0.3)]
    assert believed(said, [*[0.02] * 100, *[0.9] * 100]) == ["Good morning."]


def test_a_phrase_again_and_again_over_clicks_goes_however_likely() -> None:
    phrase = "I'm going to go back."
    six = [Segment(i * 2.0, i * 2.0 + 2.0, phrase, 0.9) for i in range(6)]
    clicks = [0.3 if i % 60 == 0 else 0.05 for i in range(400)]
    assert believed(six, clicks) == []
    assert believed(six[:2], clicks) == [phrase] * 2  # twice may be said
    assert believed(six, [0.9] * 400) == [phrase] * 6  # a chorus is


def test_nothing_is_said_where_every_sample_is_zero() -> None:
    sure = [Segment(0.0, 2.06, "you", 0.99)]
    timed = segments([word("you", 1.0)])
    assert believed(sure, [0.02] * 100, level=-100.0) == []
    assert believed(timed, [0.02] * 100, level=-100.0) == []
    assert believed(timed, [0.02] * 100, level=-90.0) == ["you"]  # somebody may have whispered


@given(
    st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(-100.0, 0.0)), max_size=120),
    st.lists(st.tuples(st.floats(0.0, 4.0), st.floats(0.0, 2.0), st.floats(0.5, 1.0))),
)
def test_a_likely_text_is_left_out_over_zeros_alone(
    heard: list[tuple[float, float]], spoken: list[tuple[float, float, float]]
) -> None:
    said = [
        Segment(start, start + length, str(number), confidence)
        for number, (start, length, confidence) in enumerate(spoken)
    ]
    samples = np.zeros(len(heard) * FRAME, np.float32)
    kept, _ = without_invented(said, Utterance(0, samples, heard=tuple(heard)))
    for one in said:
        over = heard[int(one.start / FRAME_S) : int(one.end / FRAME_S) + 1]
        assert (one in kept) == (not over or max(level for _, level in over) >= -99.0)


def said(*texts: tuple[str, float]) -> list[Segment]:
    return [Segment(i, i + 1.0, text, sure) for i, (text, sure) in enumerate(texts)]


def likelihood(*texts: tuple[str, float]) -> Likelihood:
    found = Likelihood()
    found.take(said(*texts))
    return found


@pytest.mark.parametrize(
    ("text", "confidence", "clear_s", "voiced_s", "doubted"),
    [
        ("Thank you for watching.", 0.9, 0.0, 1.0, True),  # nothing was clear speech
        ("Bye.", 0.3, 0.1, 0.8, True),  # little was, and the model is unsure
        ("so " * 30, 0.9, 1.0, 2.0, True),  # nobody speaks so fast
        ("Yes.", 0.9, 0.1, 0.7, False),  # short and sure
        ("Yes.", 0.2, LITTLE_CLEAR_S, 1.0, False),  # unsure, but it was speech
        ("I do not know.", 0.6, 0.4, 1.0, False),
        ("", 0.0, 0.0, 1.0, False),  # nothing to doubt
    ],
)
def test_doubt(
    text: str, confidence: float, clear_s: float, voiced_s: float, doubted: bool
) -> None:
    assert doubt(said((text, confidence)), Evidence(clear_s, voiced_s)) == doubted


def test_confidence_counts_by_words() -> None:
    assert not doubt([], Evidence(0.0, 0.0))
    little = Evidence(0.1, 2.0)
    assert not doubt(said(("one two three four", 0.9), ("five", 0.1)), little)
    assert doubt(said(("one", 0.9), ("two three four five", 0.1)), little)


@pytest.mark.parametrize(
    ("texts", "improbable"),
    [
        # what the starter made of real clips in German, Finnish and Basque, and in English
        ([("This is by the House House Film in Skisant.", 0.39)], True),
        ([("almost if you did it by call once more", 0.37)], True),
        ([("Thank you very much for watching and I'll see you next time.", 0.43)], False),
        ([("Please keep your bags with you at all times.", 0.983)], False),
        ([("He pays our patch.", 0.476)], False),
        ([("Let's draw nazis eye.", 0.457)], False),
        # of few words more is asked
        ([("cards but listen", 0.304)], False),
        ([("It was a oreanote.", 0.276)], True),
        # one bad sentence among good ones, and a good one among bad ones
        ([("It was a quiet night in the village.", 0.9), ("Wanchurt Jardsen", 0.17)], False),
        (
            [("Yes.", 0.9), ("Miss Joachan, Miss Womitz he bring you gently to the point", 0.3)],
            True,
        ),
        ([], False),
    ],
)
def test_improbable(texts: list[tuple[str, float]], improbable: bool) -> None:
    assert likelihood(*texts).is_improbable == improbable


@given(st.lists(st.tuples(st.text(max_size=30), st.floats(0.0, 1.0)), max_size=20))
def test_the_mean_lies_between_and_parts_make_no_difference(
    texts: list[tuple[str, float]],
) -> None:
    whole, parts = likelihood(*texts), Likelihood()
    for segment in said(*texts):
        parts.take([segment])
    assert parts.mean == whole.mean
    sure = [confidence for text, confidence in texts if text] or [1.0]
    assert min(sure) - 1e-6 <= whole.mean <= max(sure) + 1e-6
    if min(sure) >= 0.42:
        assert not whole.is_improbable


class Foreign:
    """Writes English of which it is not sure."""

    provider, streams, tells_words = "cpu", 1, False

    def __init__(self, sure: float) -> None:
        self.sure = sure

    def recognize(
        self, batch: Sequence[Samples], speech: Sequence[Sequence[float]] = ()
    ) -> list[list[Segment]]:
        text = "I am going to use the same way of doing it."
        return [[Segment(0.0, len(one) / SAMPLE_RATE, text, self.sure)] for one in batch]


@pytest.fixture(scope="module")
def loaded() -> ModelTranscriber:
    return load_model(DIGITS)


@pytest.mark.parametrize(
    ("sure", "english_only", "notes", "language"),
    [(0.25, True, (NOT_ENGLISH,), None), (0.9, True, (), "en"), (0.25, False, (), "en")],
)
def test_a_recording_has_the_note_and_is_done_all_the_same(
    loaded: ModelTranscriber,
    speech: Samples,
    sure: float,
    english_only: bool,
    notes: tuple[str, ...],
    language: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ModelTranscriber, "language", "en")
    transcriber = replace(loaded, recognizer=Foreign(sure), english_only=english_only)
    transcript = transcriber.transcribe(speech, sample_rate=SAMPLE_RATE)
    assert transcript.coverage is not None
    assert (transcript.coverage.notes, transcript.coverage.failures) == (notes, ())
    assert "the same way" in transcript.text
    assert json.loads(transcript.to("json"))["language"] == language


def test_one_channel_in_doubt_leaves_the_language_open(loaded: ModelTranscriber) -> None:
    builder = TranscriptBuilder("m", loaded.choice, language="en")
    builder.take(Step(1.0, coverage=Coverage(1.0), parts=2))
    builder.take(
        Step(1.0, coverage=Coverage(1.0, notes=(f"right: {NOT_ENGLISH}",)), part=2, parts=2)
    )
    assert builder.transcript("a").language is None
    assert "stt setup" in NOT_ENGLISH
    assert "\n" not in NOT_ENGLISH


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.skipif(not AUDIO.exists(), reason="../shared/audio is not here")
@pytest.mark.parametrize(("folder", "noted"), [("de", True), ("fr", True), ("en", False)])
def test_the_starter_tells_of_real_recordings(folder: str, noted: bool, tmp_path: Path) -> None:
    place = AUDIO / "librispeech-test" if folder == "en" else AUDIO / "multilingual" / folder
    clips = [str(path) for path in sorted(place.iterdir())[:4]]
    done = subprocess.run(
        [sys.executable, "-m", "stt", "transcribe", "-m", "starter", *clips, "-o", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert (NOT_ENGLISH[:40] in " ".join(done.stderr.split())) == noted
