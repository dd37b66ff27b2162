"""Words made up over silence: bursts of tokens where nobody speaks."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stt.audio.segmenter import Utterance
from stt.audio.vad import FRAME
from stt.text.hallucination import without_invented
from stt.text.words import segments, words
from stt.transcript import Segment, Token, Word

FRAME_S = FRAME / 16_000


def utterance(speech: list[float]) -> Utterance:
    """As many frames of 32 ms, with these probabilities of speech."""
    samples = np.zeros(len(speech) * FRAME, np.float32)
    return Utterance(0, samples, heard=tuple((p, -60.0) for p in speech))


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
    at = len(heard.samples) / 16_000
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
    found = words(tokens, 0.08, 100.0, 10.0)
    assert [one.burst_at for one in found] == [None, 104.0, None]


@given(st.lists(st.floats(0.0, 1.0), min_size=60, max_size=200), st.floats(0.0, 6.0))
def test_only_certain_silence_takes_a_word(speech: list[float], at: float) -> None:
    heard = utterance(speech)
    _, dropped = left([word("Yeah.", at, at)], heard)
    first, last = max(0, int((at - 0.32) / FRAME_S)), int((at + 0.32) / FRAME_S) + 1
    around = speech[first:last]
    assert dropped == (last <= len(speech) and max(around, default=1.0) < 0.15)


# --- texts without words: the starter's -----------------------------------------------------------


def text(start: float, end: float, said: str, confidence: float) -> Segment:
    return Segment(start, end, said, confidence)


def believed(segments_: list[Segment], speech: list[float], level: float = -40.0) -> list[str]:
    samples = np.zeros(len(speech) * FRAME, np.float32)
    heard = Utterance(0, samples, heard=tuple((p, level) for p in speech))
    kept, dropped = without_invented(segments_, heard)
    assert dropped == sum(len(s.text.split()) for s in segments_ if s not in kept)
    return [segment.text for segment in kept]


NOISE = [0.63, 0.6, 0.58, 0.51, *[0.1] * 96]
"""What the VAD hears where a recording begins with noise: four frames of speech, then none."""


def test_what_noise_at_the_start_is_taken_for_goes() -> None:
    said = [text(0.0, 0.84, "Thank you.", 0.404)]
    assert believed(said, NOISE) == []
    assert believed(said, [0.02] * 100) == []  # with --no-vad noise need not sound like speech
    assert believed([text(0.0, 0.84, "Thank you.", 0.5)], NOISE) == ["Thank you."]


def test_an_improbable_text_over_speech_stays() -> None:
    said = [text(0.0, 0.5, "eight", 0.2)]
    assert believed(said, [*[0.02] * 5, *[0.7] * 5, *[0.02] * 90]) == ["eight"]
    assert believed(said, [*[0.02] * 5, *[0.7] * 4, *[0.02] * 91]) == []


def test_of_noise_and_then_speech_the_speech_stays() -> None:
    said = [text(0.0, 2.0, "you", 0.2), text(3.3, 6.0, "Good morning.", 0.3)]
    assert believed(said, [*[0.02] * 100, *[0.9] * 100]) == ["Good morning."]


def test_a_phrase_again_and_again_over_clicks_goes_however_likely() -> None:
    phrase = "I'm going to go back."
    six = [text(i * 2.0, i * 2.0 + 2.0, phrase, 0.9) for i in range(6)]
    clicks = [0.3 if i % 60 == 0 else 0.05 for i in range(400)]
    assert believed(six, clicks) == []
    assert believed(six[:2], clicks) == [phrase] * 2  # twice may be said
    assert believed(six, [0.9] * 400) == [phrase] * 6  # a chorus is


def test_nothing_is_said_where_every_sample_is_zero() -> None:
    sure = [text(0.0, 2.06, "you", 0.99)]
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
        text(start, start + length, str(number), confidence)
        for number, (start, length, confidence) in enumerate(spoken)
    ]
    utterance = Utterance(0, np.zeros(len(heard) * FRAME, np.float32), heard=tuple(heard))
    kept, _ = without_invented(said, utterance)
    for one in said:
        over = heard[int(one.start / FRAME_S) : int(one.end / FRAME_S) + 1]
        assert (one in kept) == (not over or max(level for _, level in over) >= -99.0)
