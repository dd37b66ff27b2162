"""Label looping against the readable loop and onnx-asr's: scripted joints, the digits model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stt.convert.split import split_file
from stt.engine.sessions import Runtime
from stt.errors import NonFiniteOutput
from stt.install.observation import bundled_clips
from stt.models import FAMILIES, inspect
from stt.models.label_looping import Decoding, Ints, LogitChoices, label_looping
from stt.models.onnx_asr_edge import TdtModel, load_tdt
from stt.models.split_transducer import BatchNetworks, SplitTransducer
from stt.models.tdt import DURATIONS, Emission, TdtVocabulary, greedy_tdt
from stt.types import Floats
from support.paths import DIGITS

TOKENS, BLANK = 4, 3


class Scripted:
    """A joint read from a table [utterance, frame, tokens so far (around), V + durations]."""

    def __init__(self, table: Floats, window: int, vocabulary: TdtVocabulary) -> None:
        self.table, self.window, self.vocabulary = table, window, vocabulary
        self.emitted = np.full(len(table), -1)
        self.predictions = 0

    def predict(self, rows: Ints, tokens: Ints) -> None:
        assert all(
            (self.emitted[row] < 0) == (t == BLANK) for row, t in zip(rows, tokens, strict=True)
        )
        self.emitted[list(rows)] += 1
        self.predictions += len(rows)

    def join(self, rows: Ints, frames: Ints) -> LogitChoices:
        last = self.table.shape[1] - 1
        logits = np.stack(
            [
                [
                    self.table[row, min(frame + i, last), self.emitted[row] % self.table.shape[2]]
                    for i in range(self.window)
                ]
                for row, frame in zip(rows, frames, strict=True)
            ]
        )
        return LogitChoices(logits, self.vocabulary)


def reference(table: Floats, length: int, vocabulary: TdtVocabulary) -> list[Emission]:
    """The readable loop over one utterance of the table."""

    def step(last: int, emitted: int, frame: Floats) -> tuple[Floats, int]:
        return table[int(frame[0]), emitted % table.shape[1]], emitted + 1

    frames = np.arange(length, dtype=np.float32)[:, None]
    return greedy_tdt(step, 0, frames, vocabulary)


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    lengths=st.lists(st.integers(0, 16), min_size=1, max_size=5),
    window=st.integers(1, 9),
    durations=st.sampled_from([DURATIONS, ()]),
    limit=st.integers(1, 10),
    blank_bias=st.floats(-3, 3),
    zero_bias=st.floats(-2, 3),
)
def test_a_batch_gives_what_the_readable_loop_gives_each(
    seed: int,
    lengths: list[int],
    window: int,
    durations: tuple[int, ...],
    limit: int,
    blank_bias: float,
    zero_bias: float,
) -> None:
    shape = (len(lengths), max(*lengths, 1), 5, TOKENS + len(durations))
    table = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    table[..., BLANK] += np.float32(blank_bias)
    table[..., TOKENS : TOKENS + 1] += np.float32(zero_bias)  # of duration 0, where there is one
    vocabulary = TdtVocabulary(TOKENS, BLANK, durations, limit)
    networks = Scripted(table.copy(), window, vocabulary)
    decoded = label_looping(networks, lengths, vocabulary)
    assert [d.emissions for d in decoded] == [
        reference(table[row], length, vocabulary) for row, length in enumerate(lengths)
    ]
    spoken = sum(bool(length) for length in lengths)
    assert networks.predictions <= spoken + sum(len(d.emissions) for d in decoded)


VOCABULARY = TdtVocabulary(TOKENS, BLANK, DURATIONS, max_symbols=3)


def table_of(length: int, script: dict[tuple[int, int], tuple[int, int]]) -> Floats:
    """(frame, tokens so far) -> (token, duration); a blank of duration 1 elsewhere."""
    table = np.zeros((1, length, 10, TOKENS + len(DURATIONS)), np.float32)
    for frame in range(length):
        for emitted in range(10):
            token, duration = script.get((frame, emitted), (BLANK, 1))
            table[0, frame, emitted, [token, TOKENS + duration]] = 5.0
    return table


def decode(table: Floats, lengths: Sequence[int], window: int = 4) -> list[Decoding]:
    return label_looping(Scripted(table, window, VOCABULARY), lengths, VOCABULARY)


@pytest.mark.parametrize("window", [1, 4])
def test_bursts_zero_durations_and_durations_past_the_end(window: int) -> None:
    burst = {(1, n): (0, 0) for n in range(9)}
    table = table_of(6, burst | {(2, 3): (BLANK, 0), (3, 3): (1, 4)})
    (decoded,) = decode(table, [6], window)
    assert [(e.id, e.frame, e.duration) for e in decoded.emissions] == [
        *[(0, 1, 0)] * 3,
        (1, 3, 4),
    ]


def test_blanks_alone_need_the_prediction_network_once() -> None:
    networks = Scripted(table_of(20, {}), 4, VOCABULARY)
    assert label_looping(networks, [20], VOCABULARY) == [Decoding([], 0)]
    assert networks.predictions == 1


def test_nothing_is_asked_for_empty_utterances() -> None:
    networks = Scripted(np.zeros((2, 1, 1, 9), np.float32), 4, VOCABULARY)
    assert label_looping(networks, [0, 0], VOCABULARY) == [Decoding([], 0)] * 2
    assert label_looping(networks, [], VOCABULARY) == []
    assert networks.predictions == 0


def test_near_ties_are_counted_for_tokens_and_durations() -> None:
    table = table_of(3, {})
    table[0, 1, 0, 0] = 5.0 - 5e-5  # a token as good as the blank
    table[0, 2, 0, TOKENS + 3] = 5.0 - 2e-4  # near, but not near enough
    assert decode(table, [3])[0].near_ties == 1
    table[0, 2, 0, TOKENS + 3] = 5.0
    assert decode(table, [3])[0].near_ties == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_collapse_names_the_utterance_and_unread_frames_do_not_count(bad: float) -> None:
    table = np.repeat(table_of(6, {(0, 0): (0, 4)}), 3, axis=0)
    table[:, 1:4, :, 1] = bad  # passed over
    table[1, 5, 1, 1] = bad  # past this utterance's end
    assert [len(d.emissions) for d in decode(table, [6, 5, 6])] == [1, 1, 1]
    with pytest.raises(NonFiniteOutput, match="logits") as caught:
        decode(table, [6, 6, 6])
    assert caught.value.index == 1


# --- the digits model -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> TdtModel:
    return load_tdt(inspect(DIGITS), "fp32", Runtime("cpu", 1))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> SplitTransducer:
    import onnxruntime

    from stt.models.split_transducer import load_graph

    folder = tmp_path_factory.mktemp("parts")
    paths = [folder / name for name in FAMILIES["nemo-conformer-tdt"].parts("fp32")]
    split_file(DIGITS / "decoder_joint-model.onnx", paths)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return SplitTransducer(*(load_graph(p, options, ["CPUExecutionProvider"]) for p in paths))


@pytest.fixture(scope="module")
def encoded(model: TdtModel) -> list[Floats]:
    return [model.encode(clip.samples) for clip in bundled_clips(DIGITS / "clips")]


def onnx_asr_decodes(model: TdtModel, frames: Floats) -> list[tuple[int, int, float]]:
    found = model.asr._decoding(frames[None], np.array([len(frames)]), need_logprobs=True)
    tokens, at, logprobs = next(iter(found))
    return list(zip(tokens, at, logprobs, strict=True))


def same(decoding: Decoding, theirs: list[tuple[int, int, float]]) -> bool:
    ours = [(e.id, e.frame) for e in decoding.emissions]
    assert [e.logprob for e in decoding.emissions] == pytest.approx(
        [logprob for *_, logprob in theirs], abs=1e-4
    )
    return ours == [(token, frame) for token, frame, _ in theirs]


def test_digits_are_decoded_as_by_onnx_asr_alone_and_in_a_batch_of_32(
    model: TdtModel, parts: SplitTransducer, encoded: list[Floats]
) -> None:
    batch = [*encoded, encoded[0][:0], *(f[k:] for k in (3, 9) for f in encoded), encoded[1][:1]]
    assert len(batch) == 32
    theirs = [onnx_asr_decodes(model, frames) for frames in batch]
    together = label_looping(
        parts.batch(batch, model.vocabulary), [len(f) for f in batch], model.vocabulary
    )
    assert all(map(same, together, theirs))
    for frames, expected in zip(encoded, theirs, strict=False):
        (alone,) = label_looping(
            parts.batch([frames], model.vocabulary), [len(frames)], model.vocabulary
        )
        assert same(alone, expected)
        fused = greedy_tdt(model.step, model.initial_state(), frames, model.vocabulary)
        assert [e.duration for e in alone.emissions] == [e.duration for e in fused]


def test_memory_of_a_batch_is_taken_once(
    model: TdtModel, parts: SplitTransducer, encoded: list[Floats]
) -> None:
    networks = parts.batch(encoded, model.vocabulary)
    assert isinstance(networks, BatchNetworks)
    networks.join(np.array([0]), np.array([0]))
    first = networks._joint_calls[1]
    networks.predict(np.array([2, 0]), np.array([7, 9]))
    networks.join(np.array([0]), np.array([0]))
    assert networks._joint_calls[1] is first
    networks.join(np.array([0, 1]), np.array([0, 0]))
    assert len(networks._joint_calls) == 2
