"""Many recordings at once, with the small real Parakeet and with a recogniser that repeats."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from stt.batch import transcribe_many
from stt.errors import AudioError, SttError
from stt.transcriber import Transcriber, load
from stt.transcript import Segment, Transcript

Samples = npt.NDArray[np.float32]
DIGITS = Path(__file__).parent / "data" / "parakeet-digits"
CLIPS = sorted((DIGITS / "clips").glob("*.flac"))


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return load(DIGITS, provider="cpu", threads=2)


def plain(transcript: Transcript | SttError) -> Transcript:
    assert isinstance(transcript, Transcript)
    return replace(transcript, elapsed=0.0)


def test_the_same_as_one_by_one_and_in_their_order(transcriber: Transcriber) -> None:
    assert transcriber.recognizer.streams == 2
    found = [plain(one) for one in transcribe_many(transcriber, CLIPS)]
    assert found == [plain(transcriber.transcribe(path)) for path in CLIPS]


def test_a_recording_that_fails_stops_no_other(transcriber: Transcriber, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    first, wrong, last = transcribe_many(transcriber, [CLIPS[0], broken, CLIPS[1]])
    assert isinstance(wrong, AudioError)
    assert plain(first).text
    assert plain(last).text


def test_elsewhere_than_on_the_cpu_recordings_share_batches(transcriber: Transcriber) -> None:
    class Elsewhere:
        """The same model, told to run on a GPU; it notes how much it is handed."""

        provider, streams = "cuda", 1

        def __init__(self) -> None:
            self.sizes: list[int] = []

        def recognize(self, batch: Sequence[Samples]) -> list[list[Segment]]:
            self.sizes.append(len(batch))
            return transcriber.recognizer.recognize(batch)

    model = Elsewhere()
    cutting = replace(transcriber.cutting, batch_size=4)
    gpu = replace(transcriber, recognizer=model, cutting=cutting)
    found = [plain(one) for one in transcribe_many(gpu, CLIPS * 3)]
    assert found == [plain(transcriber.transcribe(path)) for path in CLIPS * 3]
    assert 1 < max(model.sizes) <= 4


def test_who_stops_listening_leaves_no_thread(transcriber: Transcriber) -> None:
    before = set(threading.enumerate())
    asked = []

    def sources() -> object:
        for path in CLIPS * 10:
            asked.append(path)
            yield path

    found = transcribe_many(transcriber, sources())  # type: ignore[arg-type]
    next(found)
    found.close()  # type: ignore[attr-defined]
    assert len(asked) <= 5, "recordings are begun as they are needed"
    named = [t.name for t in set(threading.enumerate()) - before]
    assert not [name for name in named if name.startswith(("recording", "recognizer"))]
