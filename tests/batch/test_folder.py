"""Recordings into a folder, each once, with the small real Parakeet."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from stt.batch.folder import Delivery, Job, Outcome, transcribe_all
from stt.batch.journal import Content, Journal
from stt.batch.pool import local_pool
from stt.engine.fallback import Reserve
from stt.engine.recognizer import Recognizer
from stt.errors import NonFiniteOutput
from stt.transcriber import ModelTranscriber
from stt.transcript import Choice, Segment
from support.loading import load_model
from support.paths import DIGITS
from support.timeless import content

Samples = npt.NDArray[np.float32]
CLIPS = sorted((DIGITS / "clips").glob("*.flac"))


@pytest.fixture(scope="module")
def transcriber() -> ModelTranscriber:
    return load_model(DIGITS, provider="cpu", threads=2)


class Counting:
    """The small model, counting what it is handed; it may stop the world after so many."""

    provider, streams, tells_words = "cpu", 1, True

    def __init__(self, inner: Recognizer, stop_after: int | None = None) -> None:
        self._inner, self._stop_after = inner, stop_after
        self.lengths: list[int] = []

    def recognize(
        self, batch: Sequence[Samples], speech: Sequence[Sequence[float]] = ()
    ) -> list[list[Segment]]:
        if self._stop_after is not None and len(self.lengths) >= self._stop_after:
            raise KeyboardInterrupt
        self.lengths += [len(samples) for samples in batch]
        return self._inner.recognize(batch, speech)


@dataclass
class Place:
    """Recordings and a folder for their results."""

    root: Path
    transcriber: ModelTranscriber
    formats: tuple[str, ...] = ("txt", "json")

    @property
    def out(self) -> Path:
        return self.root / "out"

    def jobs(self) -> list[Job]:
        return [Job(str(path), path.stem) for path in sorted(self.root.glob("*.flac"))]

    def run(self, *, force: bool = False, stop_after: int | None = None) -> dict[str, Outcome]:
        """Transcribe; returns name -> outcome. `counting` tells what was recognised."""
        self.counting = Counting(self.transcriber.recognizer, stop_after)
        transcriber = replace(self.transcriber, recognizer=self.counting)
        delivery = Delivery(self.out, self.formats, force)
        with Journal(self.out) as journal, local_pool(transcriber, None) as pool:
            found = transcribe_all(pool, self.jobs(), delivery, journal)
            return {outcome.job.name: outcome for outcome in found}

    def states(self, **how: Any) -> dict[str, str]:
        return {name: outcome.state for name, outcome in self.run(**how).items()}

    def results(self) -> dict[str, bytes]:
        return {p.name: content(p) for p in self.out.iterdir() if p.is_file()}


@pytest.fixture
def place(tmp_path: Path, transcriber: ModelTranscriber) -> Place:
    for number, path in enumerate(CLIPS[:3]):
        shutil.copy(path, tmp_path / f"{number}.flac")
    return Place(tmp_path, replace(transcriber, cutting=replace(transcriber.cutting, batch_size=1)))


def test_what_is_done_is_not_done_again(place: Place) -> None:
    assert set(place.states().values()) == {"done"}
    before = place.results()
    assert len(before) == 6
    assert set(place.states().values()) == {"kept"}
    assert place.counting.lengths == []
    assert place.results() == before
    assert set(place.states(force=True).values()) == {"done"}
    assert place.results() == before


def test_another_format_is_written_from_the_journal(place: Place) -> None:
    place.run()
    place.formats = ("txt", "srt")
    (place.out / "1.txt").unlink()
    (place.out / "2.txt").write_text("corrected by hand")
    outcomes = place.run()
    assert {outcome.state for outcome in outcomes.values()} == {"written"}
    assert place.counting.lengths == []
    assert [path.name for path in outcomes["1"].written] == ["1.txt", "1.srt"]
    assert (place.out / "2.txt").read_text() == "corrected by hand"
    assert (place.out / "0.srt").read_text().startswith("1\n00:00:")


def test_a_recording_that_changed_is_done_again_alone(place: Place) -> None:
    place.run()
    shutil.copy(CLIPS[4], place.root / "1.flac")
    os.utime(place.root / "2.flac", (1, 1))  # touched, not changed
    outcomes = place.run()
    assert {name: one.state for name, one in outcomes.items()} == {
        "0": "kept",
        "1": "done",
        "2": "kept",
    }
    assert outcomes["1"].detail == "the recording has changed"


def test_a_copy_is_not_recognised_again(place: Place) -> None:
    place.run()
    shutil.copy(place.root / "1.flac", place.root / "copy.flac")
    (place.root / "1.flac").rename(place.root / "other.flac")
    outcomes = place.run()
    assert place.counting.lengths == []
    message = {name: (one.state, one.detail) for name, one in outcomes.items()}
    assert message["copy"][0] == message["other"][0] == "copied"
    assert message["copy"][1].startswith("the same recording as ")
    for name in ("copy", "other"):
        assert (place.out / f"{name}.txt").read_text() == (place.out / "1.txt").read_text()
        document = json.loads((place.out / f"{name}.json").read_text())
        assert document["source"] == str(place.root / f"{name}.flac")
    assert set(place.states().values()) == {"kept"}


def test_other_settings_do_all_again_and_say_which(place: Place) -> None:
    place.run()
    cutting = replace(place.transcriber.cutting, vad_threshold=0.4)
    place.transcriber = replace(place.transcriber, cutting=cutting)
    outcomes = place.run()
    assert {one.detail for one in outcomes.values()} == {"VAD threshold was 0.5 and is 0.4"}
    assert len(place.counting.lengths) >= 3


def test_a_recording_that_fails_is_noted_and_tried_again(place: Place) -> None:
    (place.root / "1.flac").write_bytes(b"fLaC no more")
    assert place.states() == {"0": "done", "1": "failed", "2": "done"}
    with Journal(place.out) as journal:
        entry = journal.find("1")
    assert entry is not None
    assert entry.state == "failed"
    assert "1.flac" in entry.detail
    shutil.copy(CLIPS[1], place.root / "1.flac")
    assert place.states() == {"0": "kept", "1": "done", "2": "kept"}


def test_a_recording_that_is_gone_fails_alone(place: Place) -> None:
    jobs = [Job(str(place.root / "nowhere.flac"), "nowhere"), *place.jobs()]
    with Journal(place.out) as journal:
        delivery = Delivery(place.out, ("txt",))
        with local_pool(place.transcriber, None) as pool:
            found = transcribe_all(pool, jobs, delivery, journal)
            states = {outcome.job.name: outcome.state for outcome in found}
    assert states == {"nowhere": "failed", "0": "done", "1": "done", "2": "done"}


@pytest.fixture
def long_place(tmp_path: Path, transcriber: ModelTranscriber) -> Place:
    """One recording of many utterances."""
    clips = [soundfile.read(path, dtype="float32")[0] for path in CLIPS]
    gap = np.zeros(3 * 16_000, np.float32)
    parts = [part for clip in clips for part in (clip, gap)]
    soundfile.write(tmp_path / "long.flac", np.concatenate(parts), 16_000)
    return Place(tmp_path, replace(transcriber, cutting=replace(transcriber.cutting, batch_size=1)))


def test_an_interrupted_recording_goes_on_with_its_next_utterance(long_place: Place) -> None:
    long_place.run()
    whole, expected = long_place.counting.lengths, long_place.results()
    assert len(whole) >= len(CLIPS)
    shutil.rmtree(long_place.out)
    with pytest.raises(KeyboardInterrupt):
        long_place.run(stop_after=4)
    assert long_place.results() == {}  # nothing half-done under a final name
    assert long_place.states() == {"long": "done"}
    assert long_place.counting.lengths == whole[4:]
    assert long_place.results() == expected


def test_a_recording_that_left_its_precision_goes_on_without_it(long_place: Place) -> None:
    class Collapsing(Counting):
        def recognize(
            self, batch: Sequence[Samples], speech: Sequence[Sequence[float]] = ()
        ) -> list[list[Segment]]:
            if len(self.lengths) >= 3:
                raise NonFiniteOutput("NaN in the logits")
            return super().recognize(batch, speech)

    class Full(Counting):
        pass

    inner = long_place.transcriber.recognizer

    def run(stop_after: int | None) -> tuple[Collapsing, Full, Outcome]:
        half, full = Collapsing(inner), Full(inner, stop_after)
        transcriber = replace(
            long_place.transcriber,
            recognizer=half,
            choice=Choice("fp16", "cpu", "asked for"),
            reserve=Reserve(lambda: full),
        )
        with Journal(long_place.out) as journal:
            delivery = Delivery(long_place.out, ("json",))
            with local_pool(transcriber, None) as pool:
                (outcome,) = transcribe_all(pool, long_place.jobs(), delivery, journal)
        return half, full, outcome

    _, _, undisturbed = run(None)
    expected = long_place.results()
    shutil.rmtree(long_place.out)
    with pytest.raises(KeyboardInterrupt):
        run(2)
    half, full, outcome = run(None)
    assert half.lengths == []
    assert len(full.lengths) == len(CLIPS) - 3 - 2
    assert long_place.results() == expected
    assert outcome.transcript is not None
    assert undisturbed.transcript is not None
    assert outcome.transcript.choice == undisturbed.transcript.choice


def test_what_another_process_leaves_undone_is_waited_for_and_done(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stt.batch.folder._LOOK_S", 0.02)
    other = Journal(place.out)
    content = Content(1, 1, "what it was then")
    assert other.begin("1", str(place.root / "1.flac"), content, {})
    dies = threading.Timer(0.3, other.__exit__)
    dies.start()
    outcomes = []
    with Journal(place.out) as journal, local_pool(place.transcriber, None) as pool:
        delivery = Delivery(place.out, ("txt",))
        for outcome in transcribe_all(pool, place.jobs(), delivery, journal):
            outcomes.append((outcome.job.name, outcome.state))
    dies.join()
    assert ("1", "elsewhere") in outcomes
    assert outcomes[-1] == ("1", "done")
    assert len(list(place.out.glob("*.txt"))) == 3


def test_what_fails_in_part_is_tried_again_and_what_was_heard_is_not(long_place: Place) -> None:
    long_place.run()
    lengths, expected = long_place.counting.lengths, long_place.results()
    shutil.rmtree(long_place.out)

    class Failing(Counting):
        """Makes nothing of one utterance."""

        def recognize(
            self, batch: Sequence[Samples], speech: Sequence[Sequence[float]] = ()
        ) -> list[list[Segment]]:
            self.lengths += [len(samples) for samples in batch]
            if len(self.lengths) == 3:
                raise NonFiniteOutput("NaN in the logits")
            return self._inner.recognize(batch, speech)

    failing = Failing(long_place.transcriber.recognizer)
    with Journal(long_place.out) as journal:
        delivery = Delivery(long_place.out, long_place.formats)
        transcriber = replace(long_place.transcriber, recognizer=failing)
        with local_pool(transcriber, None) as pool:
            (outcome,) = transcribe_all(pool, long_place.jobs(), delivery, journal)
    assert outcome.state == "partly"
    assert outcome.transcript is not None
    assert outcome.transcript.coverage is not None
    assert len(outcome.transcript.coverage.failures) == 1
    assert long_place.results() != expected
    assert long_place.states() == {"long": "done"}
    assert long_place.counting.lengths == lengths[2:3]
    assert long_place.results() == expected


def test_half_written_files_of_a_killed_process_go(place: Place) -> None:
    place.run()
    (place.out / "deeper").mkdir()
    left = place.out / "deeper" / ".stt-0123456789ab.tmp"
    left.write_text("half")
    place.run()
    assert not left.exists()


def test_a_full_disk_is_told_and_the_rest_is_there(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def full(number: int) -> None:
        if len(list(place.out.glob("*.txt"))) >= 1:
            raise OSError(28, "No space left on device")
        real(number)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        outcomes = place.run()
    states = [one.state for one in outcomes.values()]
    assert "failed" in states
    assert any("the disk is full" in one.detail for one in outcomes.values())
    assert not list(place.out.glob(".stt-*"))
    assert set(place.states().values()) <= {"done", "kept", "written"}
    assert len(place.results()) == 6
