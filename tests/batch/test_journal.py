"""The journal: what it was told is there again, whole, whoever died in between."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt.audio.utterances import Utterance
from stt.batch.journal import FOLDER, Content, Journal, Output
from stt.engine.fallback import Fallback
from stt.errors import OutputError
from stt.text.transcript import Transcript
from stt.transcript import Choice, Coverage, Segment, Word

CONTENT = Content(5, 6, "ab")
RECIPE = {"model": "m", "precision": "fp32", "longest utterance": 28.0}
SEGMENTS = [
    Segment(
        0.1, 1.0 / 3, "Two words.", 0.75, (Word(0.1, 0.2, "Two", 0.7, 0.1), Word(0.2, 0.3, "w", 1))
    ),
    Segment(1.0, 2.0, "Größe", 1.0),
]
TRANSCRIPT = Transcript(
    "a.wav",
    12.5,
    tuple(SEGMENTS),
    "m",
    Choice("fp32", "cpu", "why"),
    3.25,
    Coverage(12.0, {"silence": 0.5}, 0.1, ("0:00 to 0:01: NaN",), 2),
)


def utterance(start: int, length: int = 16_000) -> Utterance:
    return Utterance(start, np.zeros(length, np.float32))


def test_what_was_told_is_there_again(tmp_path: Path) -> None:
    fallback = Fallback(12.5, "fp16", "NaN in the logits", "cpu")
    with Journal(tmp_path) as journal:
        assert journal.find("a") is None
        assert journal.begin("a", "x/a.wav", CONTENT, RECIPE)
        journal.cache("a").keep(utterance(0), SEGMENTS, None)
        journal.cache("a").keep(utterance(32_000), [], fallback)
    with Journal(tmp_path) as journal:
        entry = journal.find("a")
        assert entry is not None
        assert (entry.source, entry.content, entry.fingerprint) == ("x/a.wav", CONTENT, RECIPE)
        assert entry.state == "under way"
        cache = journal.cache("a")
        assert cache.recall(utterance(0)) == (SEGMENTS, None)
        assert cache.recall(utterance(32_000)) == ([], fallback)
        assert cache.recall(utterance(0, 15_999)) is None
        assert cache.recall(utterance(16_000)) is None
        assert journal.begin("a", "x/a.wav", CONTENT, RECIPE)  # it goes on
        assert cache.recall(utterance(0)) is not None
        journal.done("a", TRANSCRIPT, {"txt": Output("0", "look")})
        assert cache.recall(utterance(0)) is None  # not needed any more
        assert journal.transcript("a") == TRANSCRIPT
        found = journal.find("a")
        assert found is not None
        assert found.state == "done"
        assert found.outputs == {"txt": Output("0", "look")}
        assert journal.twin(CONTENT, RECIPE) == ("a", TRANSCRIPT)
        assert journal.twin(CONTENT, RECIPE | {"precision": "int8"}) is None
        journal.done("a", TRANSCRIPT, {}, partly=True)
        assert journal.twin(CONTENT, RECIPE) is None


@pytest.mark.parametrize(
    ("content", "recipe"),
    [(Content(5, 6, "other"), RECIPE), (CONTENT, RECIPE | {"precision": "int8"})],
)
def test_of_something_else_nothing_is_remembered(
    tmp_path: Path, content: Content, recipe: dict[str, object]
) -> None:
    with Journal(tmp_path) as journal:
        journal.begin("a", "a.wav", CONTENT, RECIPE)
        journal.cache("a").keep(utterance(0), SEGMENTS, None)
        journal.begin("a", "a.wav", content, recipe)
        assert journal.cache("a").recall(utterance(0)) is None


def test_a_touched_file_is_the_same(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.begin("a", "a.wav", CONTENT, RECIPE)
        journal.cache("a").keep(utterance(0), SEGMENTS, None)
        journal.begin("a", "a.wav", Content(5, 77, "ab"), RECIPE)
        assert journal.cache("a").recall(utterance(0)) is not None


def test_failures_are_told(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.begin("a", "a.wav", CONTENT, RECIPE)
        journal.failed("a", "no sound")
        entry = journal.find("a")
        assert entry is not None
        assert (entry.state, entry.detail) == ("failed", "no sound")
        assert journal.begin("a", "a.wav", CONTENT, RECIPE)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journal]:
    with Journal(tmp_path_factory.mktemp("names")) as journal:
        yield journal


@given(st.text(max_size=20), st.binary(max_size=6))
def test_any_name_will_do(shared: Journal, text: str, raw: bytes) -> None:
    name = text.encode("utf-8", "replace").decode() + os.fsdecode(raw)
    shared.begin(name, name, CONTENT, RECIPE)
    entry = shared.find(name)
    assert entry is not None
    assert entry.source == name
    assert name in shared.names()


def _hold(folder: Path, name: str, ready: multiprocessing.synchronize.Event) -> None:
    journal = Journal(folder)
    assert journal.begin(name, name, CONTENT, RECIPE)
    ready.set()
    time.sleep(60)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills by signal")
def test_what_another_process_has_under_way_is_its_own_until_it_dies(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    other = context.Process(target=_hold, args=(tmp_path, "a", ready))
    other.start()
    try:
        assert ready.wait(30)
        with Journal(tmp_path) as journal:
            assert not journal.only_one()
            assert not journal.begin("a", "a", CONTENT, RECIPE)
            assert journal.begin("b", "b", CONTENT, RECIPE)
            other.kill()
            other.join()
            assert journal.begin("a", "a", CONTENT, RECIPE)
            assert journal.only_one()
    finally:
        other.kill()
        other.join()
    assert not list((tmp_path / FOLDER).glob("*.lock"))


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file")
    with pytest.raises(OutputError, match="choose another folder with -o"):
        Journal(tmp_path)


def test_a_damaged_journal_and_one_of_another_version_are_told(tmp_path: Path) -> None:
    with Journal(tmp_path):
        pass
    path = tmp_path / FOLDER / "journal.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(OutputError, match="version 99"):
        Journal(tmp_path)
    path.write_bytes(b"no database, whatever its name says" * 100)
    with pytest.raises(OutputError, match="not a database"):
        Journal(tmp_path)
