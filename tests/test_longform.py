"""Long recordings with the small real Parakeet: the words of the parts, wherever they are cut."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import soundfile

from stt.text.transcript import Transcript
from stt.transcriber import ModelTranscriber
from stt.types import Samples
from support.loading import load_model
from support.paths import DIGITS

RATE = 16_000


@pytest.fixture(scope="module")
def transcriber() -> ModelTranscriber:
    return load_model(DIGITS, provider="cpu", threads=2)


@pytest.fixture(scope="module")
def clips() -> list[Samples]:
    paths = sorted((DIGITS / "clips").glob("*.flac"))
    del paths[7:9]  # of these the small model hears more or less with what stands beside them
    return [soundfile.read(path, dtype="float32")[0] for path in paths]


@pytest.fixture(scope="module")
def said(transcriber: ModelTranscriber, clips: list[Samples]) -> list[str]:
    return [transcriber.transcribe(clip, sample_rate=RATE).text for clip in clips]


def words(transcript: Transcript) -> list[str]:
    return transcript.text.split()


@pytest.mark.parametrize("level", [0.0, 1e-5])
@pytest.mark.parametrize("seconds", [1.2, 2.5, 7.0, 40.0])
def test_silence_of_any_length_adds_nothing_and_takes_nothing(
    transcriber: ModelTranscriber,
    clips: list[Samples],
    said: list[str],
    seconds: float,
    level: float,
) -> None:
    random = np.random.default_rng(3)
    parts: list[Samples] = []
    few = 3 if seconds > 10 else 6
    clips, said = clips[:few], said[:few]
    for clip in clips:
        gap = random.normal(0, 1, round(seconds * RATE)) * level
        parts += [gap.astype(np.float32), clip]
    samples = np.concatenate(parts)
    found = transcriber.transcribe(samples, sample_rate=RATE)
    assert words(found) == " ".join(said).split()
    coverage = found.coverage
    assert coverage is not None
    assert coverage.decoded + sum(coverage.skipped.values()) == pytest.approx(
        len(samples) / RATE, abs=1e-6
    )
    starts = [word.start for segment in found.segments for word in segment.words]
    assert starts == sorted(starts)


@pytest.fixture(scope="module")
def without_pause(clips: list[Samples]) -> Samples:
    """The clips, what is quiet in them cut away: speech of half a minute without a pause."""
    voiced = []
    for clip in clips:
        blocks = clip[: len(clip) // 800 * 800].reshape(-1, 800)
        loud = np.abs(blocks).max(axis=1) > 0.03
        first, last = np.flatnonzero(loud)[[0, -1]]
        voiced.append(blocks[first : last + 1].reshape(-1))
    return np.concatenate(voiced * 2)


def without_vad(transcriber: ModelTranscriber, samples: Samples, longest: float) -> Transcript:
    cutting = replace(transcriber.cutting, max_utterance_s=longest, vad_threshold=0.0)
    return replace(transcriber, cutting=cutting).transcribe(samples, sample_rate=RATE)


@pytest.fixture(scope="module")
def heard_whole(transcriber: ModelTranscriber, without_pause: Samples) -> list[str]:
    return words(without_vad(transcriber, without_pause, 60.0))


def lost_and_added(one: list[str], other: list[str]) -> int:
    """Words that must be taken from one and put in to have the other."""
    best = np.arange(len(other) + 1)
    for row, word in enumerate(one, start=1):
        before = best.copy()
        best[0] = row
        for column, against in enumerate(other, start=1):
            change = before[column - 1] + 2 * (word != against)
            best[column] = min(before[column] + 1, best[column - 1] + 1, change)
    return int(best[-1])


@pytest.mark.parametrize("longest", [6.0, 7.0, 8.0, 9.0, 12.0])
def test_cuts_through_speech_change_at_most_a_word_each(
    transcriber: ModelTranscriber,
    without_pause: Samples,
    heard_whole: list[str],
    longest: float,
) -> None:
    """No VAD: every cut goes through speech, and neighbours overlap."""
    found = without_vad(transcriber, without_pause, longest)
    cuts = len(without_pause) / RATE / (longest / 2)
    assert len(heard_whole) >= 45
    assert lost_and_added(heard_whole, words(found)) <= cuts
    spoken = [word for segment in found.segments for word in segment.words]
    for before, after in pairwise(spoken):
        assert before.start <= after.start
        doubled = before.text == after.text and after.start - before.start < 0.15
        assert not doubled, (before, after)
