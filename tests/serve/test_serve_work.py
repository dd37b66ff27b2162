from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from stt.errors import AudioError
from stt.serve.engine import Engine
from stt.serve.scheduler import Priority
from stt.serve.work import Progress, Readers, Recording, Work
from stt.text.transcript import Transcript
from stt.transcriber import ModelTranscriber
from support.loading import load_model
from support.paths import DIGITS, ROOT

SAMPLE = ROOT / "samples" / "weather.flac"


@pytest.fixture(scope="module")
def digits() -> ModelTranscriber:
    return load_model(DIGITS, precision="fp32", provider="cpu")


@pytest.fixture
def readers() -> Iterator[Readers]:
    readers = Readers()
    yield readers
    readers.close()


class Held:
    """A recogniser that waits to be let go, one utterance at a time."""

    provider, streams, tells_words = "cpu", 1, True

    def __init__(self) -> None:
        self.begun, self.gate = threading.Event(), threading.Event()
        self.taken = 0

    def recognize(self, batch: Sequence[object], speech: Sequence[object] = ()) -> list[list[int]]:
        self.taken += len(batch)
        self.begun.set()
        self.gate.wait(10)
        return [[] for _ in batch]


def test_a_recording_becomes_steps_and_a_transcript(
    digits: ModelTranscriber, readers: Readers
) -> None:
    engine = Engine(lambda: digits)

    async def run() -> list[Progress | Transcript]:
        recording = Recording(SAMPLE, "what I said.flac", Priority.COMMAND)
        async with Work(engine, recording, readers) as work:
            return [item async for item in work]

    *steps, transcript = asyncio.run(run())
    assert isinstance(transcript, Transcript)
    assert transcript.source == "what I said.flac"
    assert transcript.text == digits.transcribe(str(SAMPLE)).text
    heard = [step.step.heard for step in steps if isinstance(step, Progress)]
    assert heard == sorted(heard)
    assert heard[-1] == pytest.approx(transcript.duration, abs=0.1)
    engine.close()


def test_what_cannot_be_read_is_raised_where_it_is_waited_for(
    digits: ModelTranscriber, readers: Readers, tmp_path: Path
) -> None:
    engine = Engine(lambda: digits)
    broken = tmp_path / "a.wav"
    broken.write_bytes(b"no sound at all")

    async def run() -> Transcript:
        async with Work(engine, Recording(broken, "a.wav", Priority.FILE), readers) as work:
            return await work.transcript()

    with pytest.raises(AudioError, match=r"a\.wav"):
        asyncio.run(run())
    engine.close()


def test_who_leaves_early_has_at_most_one_utterance_finished(
    digits: ModelTranscriber, readers: Readers
) -> None:
    held = Held()
    cutting = replace(digits.cutting, max_utterance_s=5.0, batch_size=1)
    engine = Engine(lambda: replace(digits, recognizer=held, cutting=cutting))

    async def run() -> None:
        async with Work(engine, Recording(SAMPLE, "a", Priority.FILE), readers):
            await asyncio.to_thread(held.begun.wait, 10)
            threading.Timer(0.1, held.gate.set).start()

    asyncio.run(run())
    assert held.taken == 1
    assert engine.waiting == 0
    engine.close()


def test_who_is_cancelled_leaves_nothing_that_reads_the_file(
    digits: ModelTranscriber, readers: Readers
) -> None:
    held = Held()
    engine = Engine(lambda: replace(digits, recognizer=held))
    closed = threading.Event()

    async def work() -> None:
        try:
            async with Work(engine, Recording(SAMPLE, "a", Priority.FILE), readers) as under_way:
                await under_way.transcript()
        finally:
            closed.set()

    async def run() -> None:
        task = asyncio.create_task(work())
        await asyncio.to_thread(held.begun.wait, 10)
        task.cancel()
        await asyncio.sleep(0.1)
        assert not closed.is_set()  # an utterance is under way, and the file is read still
        held.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert closed.is_set()
    engine.close()


def test_a_command_does_not_wait_for_a_place_among_the_files(
    digits: ModelTranscriber, readers: Readers
) -> None:
    held = Held()
    engine = Engine(lambda: replace(digits, recognizer=held))

    async def run() -> None:
        files = [Work(engine, Recording(SAMPLE, "f", Priority.FILE), readers) for _ in range(20)]
        for file in files:
            await file.__aenter__()
        await asyncio.to_thread(held.begun.wait, 10)
        async with Work(engine, Recording(SAMPLE, "c", Priority.COMMAND), readers) as command:
            held.gate.set()
            assert isinstance(await command.transcript(), Transcript)
        for file in files:
            await file.__aexit__()

    asyncio.run(run())
    engine.close()
