"""Speech in another language under a model that knows English alone: a note."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from subprocess import run
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt.pipeline import Step
from stt.text.hallucination import NOT_ENGLISH, Likelihood
from stt.transcriber import ModelTranscriber, TranscriptBuilder
from stt.transcript import Coverage, Segment
from support.loading import load_model
from support.paths import DIGITS, SHARED

Samples = npt.NDArray[np.float32]
AUDIO = SHARED / "audio"


def said(*texts: tuple[str, float]) -> list[Segment]:
    return [Segment(i, i + 1.0, text, sure) for i, (text, sure) in enumerate(texts)]


def likelihood(*texts: tuple[str, float]) -> Likelihood:
    found = Likelihood()
    found.take(said(*texts))
    return found


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
        return [[Segment(0.0, len(one) / 16_000, text, self.sure)] for one in batch]


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
    transcript = transcriber.transcribe(speech, sample_rate=16_000)
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


def test_the_note_says_what_to_do() -> None:
    assert "stt setup" in NOT_ENGLISH
    assert "\n" not in NOT_ENGLISH


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.skipif(not AUDIO.exists(), reason="../shared/audio is not here")
@pytest.mark.parametrize(("folder", "told"), [("de", True), ("fr", True), ("en", False)])
def test_the_starter_tells_of_real_recordings(folder: str, told: bool, tmp_path: Path) -> None:
    place = AUDIO / "librispeech-test" if folder == "en" else AUDIO / "multilingual" / folder
    clips = [str(path) for path in sorted(place.iterdir())[:4]]
    done: Any = run(
        [sys.executable, "-m", "stt", "transcribe", "-m", "starter", *clips, "-o", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert (NOT_ENGLISH[:40] in " ".join(done.stderr.split())) == told
