"""Speech that a stuck decoder passes over: scripted joints, then the digits model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt.engine.sessions import Runtime
from stt.errors import NonFiniteOutput
from stt.install.observation import bundled_clips
from stt.models import inspect
from stt.models.label_looping import Decoding, Ints, LogitChoices, label_looping
from stt.models.onnx_asr_edge import load_tdt
from stt.models.tdt import DURATIONS, TdtVocabulary, greedy_tdt
from stt.models.transducer import SPOKEN_S, Decode, TdtRecognizer, redecoded
from stt.types import Floats
from support.paths import DIGITS

FRAME_S = 0.08
WORDS, STOP, END, BLANK, SIZE = 6, 6, 7, 8, 9
"""Tokens 0 to 5 begin a word; 6 is a full stop, after which the decoder is stuck; 7 ends a word."""
SURE = 12.0
"""Logit of what is said, against 0 for all else: probability 0.9999."""
HALF = math.log(SIZE - 1)
"""Logit of probability one half."""


def frames_of(said: dict[int, int], length: int, logit: float = SURE) -> Floats:
    """Encoder frames [T, 2]: the token said at each (or blank) and the logit it is said with."""
    frames = np.full((length, 2), (BLANK, SURE), np.float32)
    for frame, token in said.items():
        frames[frame] = token, logit
    return frames


def logits_of(frame: Floats, last: int, durations: tuple[int, ...]) -> Floats:
    """What the joint gives for a frame after a token: that frame's, but blank after a full stop."""
    token, logit = int(frame[0]), frame[1]
    if last == STOP or (last == token and not durations):  # a plain one moves on by a blank
        token, logit = BLANK, np.float32(SURE)
    logits = np.zeros(SIZE + len(durations), np.float32)
    logits[token] = logit
    if durations:
        logits[SIZE + (token != STOP)] = SURE  # no frame on after a full stop, one elsewhere
    return logits


class StuckAfterStop:
    """Prediction network and joint of a batch: after a full stop they give blanks for ever."""

    def __init__(self, batch: Sequence[Floats], durations: tuple[int, ...]) -> None:
        self.batch, self.durations = batch, durations
        self.last = [BLANK] * len(batch)

    def predict(self, rows: Ints, tokens: Ints) -> None:
        for row, token in zip(rows, tokens, strict=True):
            self.last[row] = token

    def join(self, rows: Ints, frames: Ints) -> LogitChoices:
        logits = np.stack(
            [
                [
                    logits_of(
                        self.batch[row][min(frame + i, len(self.batch[row]) - 1)],
                        self.last[row],
                        self.durations,
                    )
                    for i in range(3)
                ]
                for row, frame in zip(rows, frames, strict=True)
            ]
        )
        return LogitChoices(logits, TdtVocabulary(SIZE, BLANK, self.durations))


def one_by_one(durations: tuple[int, ...]) -> Decode:
    """The readable loop."""
    vocabulary = TdtVocabulary(SIZE, BLANK, durations)

    def step(last: int, state: int, frame: Floats) -> tuple[Floats, int]:
        logits = logits_of(frame, last, durations)
        if np.isnan(logits).any():
            raise NonFiniteOutput("NaN in the logits")
        return logits, state

    def decode(batch: Sequence[Floats]) -> list[Decoding]:
        found = []
        for index, frames in enumerate(batch):
            try:
                found.append(Decoding(greedy_tdt(step, 0, frames, vocabulary)))
            except NonFiniteOutput as error:
                error.index = index
                raise
        return found

    return decode


def together(durations: tuple[int, ...]) -> Decode:
    """Label looping."""
    vocabulary = TdtVocabulary(SIZE, BLANK, durations)
    return lambda batch: label_looping(
        StuckAfterStop(batch, durations), [len(frames) for frames in batch], vocabulary
    )


@pytest.fixture(params=[one_by_one, together], ids=["greedy_tdt", "label_looping"])
def decoder(request: pytest.FixtureRequest) -> Callable[[tuple[int, ...]], Decode]:
    made: Callable[[tuple[int, ...]], Decode] = request.param
    return made


def spoken(length: int, *silent: tuple[int, int]) -> list[float]:
    """Probabilities of speech for so many encoder frames: certain but in the silent ones."""
    heard = np.full(round(length * FRAME_S / 0.032), 0.9)
    for begin, end in silent:
        heard[round(begin * FRAME_S / 0.032) : round(end * FRAME_S / 0.032)] = 0.02
    return [float(probability) for probability in heard]


def again(
    decode: Decode, batch: Sequence[Floats], speech: Sequence[Sequence[float]]
) -> list[list[tuple[int, int, bool]]]:
    found = redecoded(
        decode(batch), batch, speech, decode, frame_s=FRAME_S, word_starts=range(WORDS)
    )
    return [[(e.id, e.frame, e.recovered) for e in one.emissions] for one in found]


SENTENCE = {2: 0, 6: 1, 8: STOP}
LATER = {30: 2, 50: 3, 70: 4}


@pytest.mark.parametrize("durations", [DURATIONS, ()], ids=["tdt", "rnnt"])
def test_what_a_stuck_decoder_passed_over_is_found(
    decoder: Callable[[tuple[int, ...]], Decode], durations: tuple[int, ...]
) -> None:
    decode = decoder(durations)
    frames = frames_of(SENTENCE | LATER, 100)
    assert [e.id for e in decode([frames])[0].emissions] == [0, 1, STOP]
    (found,) = again(decode, [frames], [spoken(100, (10, 25))])
    assert found[:3] == [(0, 2, False), (1, 6, False), (STOP, 8, False)]
    assert found[3:] == [(2, 30, True), (3, 50, True), (4, 70, True)]


def test_several_times_in_one_utterance(decoder: Callable[[tuple[int, ...]], Decode]) -> None:
    decode = decoder(DURATIONS)
    said = SENTENCE | {50: 2, 52: STOP, 100: 3, 102: STOP, 150: 4}
    found = again(decode, [frames_of(said, 200)], [spoken(200)])
    assert found == [[(token, frame, frame > 8) for frame, token in said.items()]]


def test_in_a_batch_each_for_itself(decoder: Callable[[tuple[int, ...]], Decode]) -> None:
    decode = decoder(DURATIONS)
    stuck, fluent = frames_of(SENTENCE | LATER, 100), frames_of({3: 0, 60: 1}, 120)
    empty = frames_of({}, 0)
    heard = [spoken(120), spoken(100), [], spoken(100)]
    found = again(decode, [fluent, stuck, empty, stuck], heard)
    # a true pause of the model's, decoded again, is as empty as it was
    assert found[0] == [(0, 3, False), (1, 60, False)]
    assert found[1] == found[3] == again(decode, [stuck], [spoken(100)])[0]
    assert found[2] == []


def test_silence_little_speech_and_nobody_listening_change_nothing(
    decoder: Callable[[tuple[int, ...]], Decode],
) -> None:
    decode = decoder(DURATIONS)
    frames = frames_of(SENTENCE | LATER, 100)
    before = [[(0, 2, False), (1, 6, False), (STOP, 8, False)]]
    just = 100 - int(SPOKEN_S / FRAME_S)
    nobody: list[list[float]] = [[]]
    for heard in ([], nobody, [spoken(100, (9, 100))], [spoken(100, (9, just))], [[0.5] * 250]):
        assert again(decode, [frames], heard) == before


def test_what_is_improbable_is_not_kept(decoder: Callable[[tuple[int, ...]], Decode]) -> None:
    decode = decoder(DURATIONS)
    for logit, kept in ((HALF - 0.3, 0), (HALF + 0.3, 3)):
        frames = frames_of(LATER, 100, logit)
        frames[:10] = frames_of(SENTENCE, 10)
        assert len(again(decode, [frames], [spoken(100)])[0]) == 3 + kept


def test_no_half_word_before_and_no_word_twice_behind(
    decoder: Callable[[tuple[int, ...]], Decode],
) -> None:
    decode = decoder(DURATIONS)
    frames = frames_of(SENTENCE | {20: END, 30: 2, 58: 3}, 100)
    before = decode([frames])[0]
    # as if it had come to itself at a word that is heard a frame earlier from the start state
    late = replace(before.emissions[0], id=3, frame=60)
    found = redecoded(
        [Decoding([*before.emissions, late])],
        [frames],
        [spoken(100)],
        decode,
        frame_s=FRAME_S,
        word_starts=range(WORDS),
    )
    assert [(e.id, e.frame) for e in found[0].emissions][3:] == [(2, 30), (3, 60)]


def test_a_collapse_names_the_utterance(decoder: Callable[[tuple[int, ...]], Decode]) -> None:
    decode = decoder(DURATIONS)
    stuck = frames_of(SENTENCE | LATER, 100)
    broken = stuck.copy()
    broken[60] = BLANK, np.nan
    with pytest.raises(NonFiniteOutput) as caught:
        again(decode, [frames_of({}, 5), stuck, broken], [[], spoken(100), spoken(100)])
    assert caught.value.index == 2


@given(
    said=st.dictionaries(st.integers(0, 109), st.integers(0, END), max_size=9),
    runs=st.lists(st.tuples(st.sampled_from([0.02, 0.5, 0.9]), st.integers(1, 120)), max_size=6),
)
def test_nothing_is_lost_moved_or_out_of_order(
    said: dict[int, int], runs: list[tuple[float, int]]
) -> None:
    frames = frames_of(said, 110)
    heard = [p for p, length in [*runs, (0.9, 275)] for _ in range(length)][:275]
    by_loop, by_batch = one_by_one(DURATIONS), together(DURATIONS)
    found = again(by_loop, [frames], [heard])[0]
    assert found == again(by_batch, [frames], [heard])[0]
    assert [frame for _, frame, _ in found] == sorted({frame for _, frame, _ in found})
    assert all(said[frame] == token for token, frame, _ in found)
    first = [(e.id, e.frame, False) for e in by_loop([frames])[0].emissions]
    assert [one for one in found if not one[2]] == first


# --- the digits model -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> TdtRecognizer:
    return TdtRecognizer(load_tdt(inspect(DIGITS), "fp32", Runtime("cpu", 1)))


def test_ordinary_recordings_stay_the_same_token_for_token(digits: TdtRecognizer) -> None:
    samples = [clip.samples for clip in bundled_clips(DIGITS / "clips")]
    always = [[1.0] * (len(one) // 512) for one in samples]
    assert digits.decode(samples, always) == digits.decode(samples)


def test_the_encoder_does_not_run_again(
    digits: TdtRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real model whose decoder is made to stick behind the first of two sentences."""
    clip = next(c for c in bundled_clips(DIGITS / "clips") if "two-digits" in c.name)
    samples = np.concatenate([clip.samples, np.zeros(64_000, np.float32), clip.samples])
    whole = digits.decode([samples])[0]
    half = len(whole) // 2
    assert [e.id for e in whole[:half]] == [e.id for e in whole[half:]]
    model = digits._model
    encoded: list[int] = []
    encode, calls = model.asr._encode, 0

    def counted(*args: object) -> object:
        encoded.append(1)
        return encode(*args)

    monkeypatch.setattr(model.asr, "_encode", counted)
    decode = type(model).decode

    def stuck(self: object, batch: Sequence[Floats]) -> list[Decoding]:
        nonlocal calls
        calls += 1
        found = decode(model, batch)
        return [Decoding(one.emissions[:half]) for one in found] if calls == 1 else found

    monkeypatch.setattr(type(model), "decode", stuck)
    heard = [0.9] * (len(samples) // 512)
    found = digits.decode([samples], [heard])[0]
    assert [e.id for e in found] == [e.id for e in whole]
    assert [e.recovered for e in found] == [False] * half + [True] * half
    assert (len(encoded), calls) == (1, 2)
    text = " ".join(segment.text for segment in digits._segments(found, samples))
    assert text == " ".join(segment.text for segment in digits._segments(whole, samples))
