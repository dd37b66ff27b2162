from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stt.engine.recognizer import Interrupted
from stt.errors import ModelError
from stt.models.whisper import split_pieces, transcribe
from stt.models.whisper_decoding import (
    Rules,
    Said,
    WhisperVocabulary,
    apply_rules,
    decode_greedily,
    load_vocabulary,
    log_softmax,
    loop_start,
)
from stt.models.whisper_session import log_mel

# ids: 0-9 text, 10 end, 11 start, 12 en, 13 de, 14 translate, 15 transcribe, 16 nospeech,
# 17 notimestamps, 18 + n the time n * 20 ms
END, START, ENGLISH, GERMAN, TRANSCRIBE, NO_SPEECH, NO_TIMES, TIMES = 10, 11, 12, 13, 15, 16, 17, 18
SIZE = TIMES + 1501


def vocabulary(multilingual: bool = False, positions: int = 448) -> WhisperVocabulary:
    words = [b" a", b" b", b" c", b" d", b"\xe2\x82", b"\xac", b" g", b"h", b"!", b" "]
    return WhisperVocabulary(
        pieces=(*words, *(b"",) * (SIZE - len(words))),
        start=START,
        end=END,
        no_timestamps=NO_TIMES,
        timestamp_begin=TIMES,
        no_speech=NO_SPEECH,
        transcribe=TRANSCRIBE,
        languages={"en": ENGLISH, "de": GERMAN} if multilingual else {},
        suppress=(8, *range(START, NO_TIMES)),
        suppress_first=(9, END),
        max_positions=positions,
    )


PLAIN = Rules(vocabulary(), timestamps=False)
TIMED = Rules(vocabulary(), timestamps=True)


def t(seconds: float) -> int:
    return TIMES + round(seconds * 50)


class Script:
    """A decoder that wants to say given tokens, one utterance apart from the other."""

    def __init__(self, scripts: Sequence[Sequence[int]], prompts: int = 2) -> None:
        self.scripts = [list(script) for script in scripts]
        self.kept = list(range(len(scripts)))
        self.said: list[list[int]] = [[] for _ in scripts]
        self.batches: list[int] = []
        self.prompts = prompts  # calls before the first token is sampled

    def __call__(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        assert len(tokens) == len(self.kept)
        self.batches.append(len(tokens))
        logits = np.zeros((len(tokens), SIZE), np.float32)
        for row, which, new in zip(logits, self.kept, tokens.tolist(), strict=True):
            self.said[which] += new
            sampled = len(self.batches) - self.prompts
            script = self.scripts[which]
            if sampled >= 0:
                row[script[sampled] if sampled < len(script) else END] = 20.0
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        self.kept = [self.kept[row] for row in rows]


def test_says_what_the_decoder_wants_until_the_end() -> None:
    script = Script([[0, 1, 2], [3], [2, 2, 2, 2, 0]])
    said = decode_greedily(script, [None] * 3, PLAIN)
    assert [one.tokens for one in said] == [[0, 1, 2], [3], [2, 2, 2, 2, 0]]
    assert script.said[0] == [START, NO_TIMES, 0, 1, 2]
    assert script.batches == [3, 3, 3, 2, 2, 1, 1]  # who has finished leaves the batch
    assert all(-0.01 < logprob < 0 for one in said for logprob in one.logprobs)
    assert all(len(one.tokens) == len(one.logprobs) for one in said)


def test_what_is_not_wanted_any_more_ends_at_the_next_token() -> None:
    script = Script([[0, 1, 2, 3, 4]])
    with pytest.raises(Interrupted):
        decode_greedily(script, [None], PLAIN, lambda: len(script.batches) >= 4)
    assert len(script.batches) == 4


def test_suppressed_tokens_are_never_said() -> None:
    said = decode_greedily(Script([[8, 1], [9, 9], [END, 1]]), [None] * 3, PLAIN)
    assert all(8 not in one.tokens and START not in one.tokens for one in said)
    assert said[1].tokens[0] != 9 and said[1].tokens[1] == 9  # blank: not at first, later it may be
    assert said[2].tokens[1] == 1  # the end: not at first


def test_no_more_than_half_the_positions() -> None:
    rules = Rules(vocabulary(positions=40), timestamps=False)
    said = decode_greedily(Script([[i % 7 for i in range(50)]]), [None], rules)
    assert len(said[0].tokens) == 20


def test_language_is_detected_or_given() -> None:
    class Speaker(Script):
        def __call__(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
            logits = super().__call__(tokens)
            if len(self.batches) == 1:
                logits[:] = -50.0
                logits[0, GERMAN], logits[1, ENGLISH], logits[1, NO_SPEECH] = 1.0, 1.0, 1.0
            return logits

    rules = Rules(vocabulary(multilingual=True), timestamps=False)
    script = Speaker([[0], [1]])
    said = decode_greedily(script, [None] * 2, rules)
    assert [one.language for one in said] == ["de", "en"]
    assert script.said[0][:4] == [START, GERMAN, TRANSCRIBE, NO_TIMES]
    assert said[0].no_speech_prob < 0.01
    assert said[1].no_speech_prob == pytest.approx(0.5)

    given_language = decode_greedily(Speaker([[0], [1]]), ["de", None], rules)
    assert [one.language for one in given_language] == ["de", "en"]
    with pytest.raises(ValueError, match="fr"):
        decode_greedily(Script([[0]]), ["fr"], rules)
    with pytest.raises(ValueError, match="de"):
        decode_greedily(Script([[0]]), ["de"], PLAIN)


def test_a_loop_is_cut_to_its_first_time() -> None:
    script = Script([[0, 1, *[2, 3, 6] * 100], [5] * 12])
    said = decode_greedily(script, [None] * 2, PLAIN)
    assert said[0].tokens == [0, 1, 2, 3, 6]
    assert len(said[0].logprobs) == 5
    assert said[1].tokens == [5] * 12  # a word said twelve times is not yet a loop
    assert len(script.batches) < 40


@given(
    st.lists(st.integers(0, 9), max_size=20),
    st.lists(st.integers(0, 9), min_size=1, max_size=32),
    st.integers(4, 40),
)
def test_loop_start_leaves_one_time(start: list[int], phrase: list[int], times: int) -> None:
    tokens = start + phrase * times
    found = loop_start(tokens)
    if len(phrase) * times >= 32:
        assert found is not None and found <= len(start) + len(phrase)
        assert tokens[:found] == (start + phrase)[:found]
    assert loop_start(list(range(100))) is None


def allowed(tokens: list[int], prefer: dict[int, float] | None = None) -> set[int]:
    logits = np.zeros((1, SIZE), np.float32)
    logits[0, :10] = 30.0  # text outweighs all timestamps taken together
    for token, value in (prefer or {}).items():
        logits[0, token] = value
    apply_rules(logits, [tokens], TIMED)
    return set(np.flatnonzero(logits[0] > -np.inf).tolist())


def test_timestamp_rules_by_example() -> None:
    text = set(range(8)) | {9}
    assert allowed([]) == set(range(t(0), t(1.0) + 1))  # a time first, within the first second
    assert allowed([t(0.2)]) == text | {END}  # a piece is open: text
    after_text = allowed([t(0.2), 1])
    assert text | {END} <= after_text
    assert min(after_text - text - {END}) == t(0.22)  # time moves on, no piece is empty
    closed = allowed([t(0.2), 1, t(2.0)], {END: 30.0})
    assert closed & text == set()  # closed: opens where it closed or later, or ends
    assert min(closed - {END}) == t(2.0)
    assert END in closed
    assert allowed([t(0.2), 1, t(2.0), t(2.0)]) == text | {END}
    heavy = allowed([t(0.2), 1], dict.fromkeys(range(t(5), t(6)), 29.0))
    assert heavy == set(range(t(0.22), SIZE))  # times taken together outweigh any one word


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_timestamps_are_pairs_and_never_go_back(seed: int) -> None:
    rng = np.random.default_rng(seed)

    class Noise(Script):
        def __call__(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
            super().__call__(tokens)
            logits = rng.normal(0, 3, (len(tokens), SIZE)).astype(np.float32)
            logits[:, :10] += rng.uniform(0, 9)
            return logits

    for one in decode_greedily(Noise([[], []], prompts=1), [None] * 2, TIMED):
        times = [token for token in one.tokens if token >= TIMES]
        assert one.tokens[0] >= TIMES and times[0] <= t(1.0)
        assert times == sorted(times)
        pieces, used = split_pieces(one, TIMED, 30.0)
        assert 0 <= used <= 30
        for piece in pieces:
            assert 0 <= piece.start <= piece.end <= 30
        assert all(a.end <= b.start for a, b in itertools.pairwise(pieces))


@pytest.mark.parametrize(
    ("tokens", "rules", "expected", "used"),
    [
        ((t(0.5), 0, 1, t(2), t(2.5), 2, t(4)), TIMED, [(0.5, 2, "a b"), (2.5, 4, "c")], 5.0),
        # text behind the last timestamp is kept
        ((t(0), 0, t(2), t(2), 2, 3), TIMED, [(0, 2, "a"), (2, 5, "c d")], 5.0),
        # a window left with an open piece is gone on with, but for too short a rest
        ((t(0), 0, t(2), t(2)), TIMED, [(0, 2, "a")], 2.0),
        ((t(0), 0, t(4.8), t(4.8)), TIMED, [(0, 4.8, "a")], 5.0),
        ((t(0), 0, t(9)), TIMED, [(0, 5, "a")], 5.0),  # not behind the audio
        # without timestamps there is one piece
        ((0, 1), PLAIN, [(0, 5, "a b")], 5.0),
        ((), PLAIN, [], 5.0),
        ((9,), PLAIN, [], 5.0),
    ],
)
def test_pieces_of_a_window(
    tokens: tuple[int, ...], rules: Rules, expected: list[tuple[float, float, str]], used: float
) -> None:
    said = Said("en", 0.0, list(tokens), [-0.5] * len(tokens))
    pieces, reached = split_pieces(said, rules, 5.0)
    assert [(p.start, p.end, p.text) for p in pieces] == expected
    assert all(p.logprob == -0.5 for p in pieces)
    assert reached == used


def test_characters_spread_over_tokens() -> None:
    words = vocabulary()
    assert words.text([0, 4, 5, END, 7]) == " a€h"
    assert words.text([0, 4]) == " a\ufffd"


def test_transcribe_keeps_order_and_finishes_every_utterance() -> None:
    scripts = [[[t(0), 0, t(1)], [t(0), 1, t(2), t(2)]], [[t(0), 2, t(3)], [t(0), 3, t(1)]]]
    batches: list[int] = []

    def start(features: Sequence[npt.NDArray[np.float32]]) -> Script:
        assert {one.shape for one in features} == {(80, 3000)}
        batches.append(len(features))
        return Script(scripts[len(batches) - 1], prompts=1)

    sounds = [np.zeros(int(16000 * s), np.float32) for s in (1.5, 6, 0)]
    scripts[1][1] = []
    results = transcribe(sounds, start, TIMED, batch=2)
    assert batches == [2, 2]
    assert [r.text for r in results][:2] == ["a", "b c"]
    assert [(p.start, p.end) for p in results[1].pieces] == [(0, 2), (2, 5)]
    assert results[1].language == "en"


def test_transcribe_takes_long_audio_in_windows() -> None:
    starts = iter([[0], [1]])
    sound = np.zeros(16000 * 40, np.float32)
    (result,) = transcribe([sound], lambda features: Script([next(starts)]), PLAIN)
    assert [(p.start, p.end, p.text) for p in result.pieces] == [(0, 30, "a"), (30, 40, "b")]
    assert transcribe([], lambda features: Script([]), PLAIN) == []


def test_log_softmax() -> None:
    logits = np.array([[0.0, 0.0, -np.inf], [1000.0, 0.0, 0.0]], np.float32)
    np.testing.assert_allclose(np.exp(log_softmax(logits)), [[0.5, 0.5, 0], [1, 0, 0]])


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize("samples", [0, 1, 150, 399, 16000, 16123, 479_999, 480_000])
def test_features_equal_those_of_onnx_asr(mels: int, samples: int) -> None:
    from onnx_asr.preprocessors.numpy_preprocessor import WhisperPreprocessorNumpy

    sound = np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)
    sound *= np.linspace(0, 1, samples, dtype=np.float32)
    expected, _ = WhisperPreprocessorNumpy(f"whisper{mels}")(sound[None], np.array([samples]))
    features = log_mel(sound, mels)
    assert (features.shape, features.dtype) == ((mels, 3000), np.float32)
    np.testing.assert_allclose(features, expected[0], atol=1e-4)


def test_features_of_more_than_a_window_are_refused() -> None:
    with pytest.raises(ValueError, match="30 s"):
        log_mel(np.zeros(480_001, np.float32))


def test_vocabulary_from_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        load_vocabulary(tmp_path)
    special = [
        "endoftext",
        "startoftranscript",
        "en",
        "de",
        "translate",
        "transcribe",
        "nocaptions",
    ]
    names = [*(f"<|{name}|>" for name in special), "<|notimestamps|>", "<|0.00|>", "<|0.02|>"]
    config = {
        "is_multilingual": True,
        "suppress_tokens": [3],
        "begin_suppress_tokens": [1],
        "max_target_positions": 448,
    }
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    (tmp_path / "vocab.json").write_text(json.dumps({"Ġhi": 0, "Ċ": 1, "â": 2}), "utf-8")
    added = {name: i for i, name in enumerate(names, 3)}
    (tmp_path / "added_tokens.json").write_text(json.dumps(added), "utf-8")
    words = load_vocabulary(tmp_path)
    assert words.pieces[:4] == (b" hi", b"\n", b"\xe2", b"")
    assert (words.end, words.start, words.no_speech, words.timestamp_begin) == (3, 4, 9, 11)
    assert words.languages == {"en": 5, "de": 6}
    assert words.time(12) == 0.02
    (tmp_path / "added_tokens.json").write_text("{}", "utf-8")
    with pytest.raises(ModelError, match="startoftranscript"):
        load_vocabulary(tmp_path)
