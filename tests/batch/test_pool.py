"""Many recordings at once, with the small real Parakeet."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

from stt.batch.pool import Sharing, local_pool, transcribe_many
from stt.engine.dynamic_batcher import DynamicBatcher
from stt.engine.fallback import Reserve
from stt.engine.stages import finished
from stt.errors import AudioError, SttError
from stt.models.onnx_asr_edge import TdtModel
from stt.models.tdt import Emission
from stt.models.transducer import TdtRecognizer
from stt.settings.loading import LoadedSettings, Settings
from stt.text.transcript import Transcript
from stt.transcriber import ModelTranscriber, Transcriber, load_with
from stt.transcript import Segment
from support.loading import load_model
from support.paths import DIGITS

Samples = npt.NDArray[np.float32]
CLIPS = sorted((DIGITS / "clips").glob("*.flac"))


@pytest.fixture(scope="module")
def transcriber() -> ModelTranscriber:
    return load_model(DIGITS, provider="cpu", threads=2)


def plain(transcript: Transcript | SttError) -> Transcript:
    assert isinstance(transcript, Transcript)
    return replace(transcript, elapsed=0.0)


def test_the_same_as_one_by_one_and_in_their_order(transcriber: ModelTranscriber) -> None:
    assert transcriber.recognizer.streams == 2
    found = [plain(one) for one in transcribe_many(transcriber, CLIPS)]
    assert found == [plain(transcriber.transcribe(path)) for path in CLIPS]


def test_a_recording_that_fails_stops_no_other(
    transcriber: ModelTranscriber, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    first, wrong, last = transcribe_many(transcriber, [CLIPS[0], broken, CLIPS[1]])
    assert isinstance(wrong, AudioError)
    assert plain(first).text
    assert plain(last).text


def test_elsewhere_than_on_the_cpu_recordings_share_batches(transcriber: ModelTranscriber) -> None:
    class Elsewhere:
        """The same model, told to run on a GPU; it notes how much it is handed."""

        provider, streams, tells_words = "cuda", 1, True

        def __init__(self) -> None:
            self.sizes: list[int] = []

        def recognize(
            self, batch: Sequence[Samples], speech: Sequence[Sequence[float]] = ()
        ) -> list[list[Segment]]:
            self.sizes.append(len(batch))
            return transcriber.recognizer.recognize(batch, speech)

    model = Elsewhere()
    cutting = replace(transcriber.cutting, batch_size=4)
    gpu = replace(transcriber, recognizer=model, cutting=cutting)
    found = [plain(one) for one in transcribe_many(gpu, CLIPS * 3)]
    assert found == [plain(transcriber.transcribe(path)) for path in CLIPS * 3]
    assert 1 < max(model.sizes) <= 4


class Card(TdtRecognizer):
    """A real model whose first batch is decoded only when the encoder has begun the next one."""

    def __init__(self, model: TdtModel) -> None:
        super().__init__(replace(model, provider="cuda"))
        self.lock, self.begun = threading.Lock(), [0, 0, 0]
        self.next = threading.Event()

    def decoding(
        self, batch: Sequence[Samples], speech: Sequence[Sequence[float]] = ()
    ) -> Generator[None, None, list[list[Emission]]]:
        stages = super().decoding(batch, speech)
        for stage in range(3):
            with self.lock:
                self.begun[stage] += 1
                if stage == 1 and self.begun[1] == 2:
                    self.next.set()
                first = self.begun[stage] == 1
            if stage < 2:
                next(stages)
                yield
        assert not first or self.next.wait(20)
        return finished(stages)


@pytest.mark.parametrize("alone", [True, False])
def test_a_card_encodes_the_next_batch_while_one_is_decoded(
    transcriber: ModelTranscriber, tmp_path: Path, alone: bool
) -> None:
    assert isinstance(transcriber.recognizer, TdtRecognizer)
    card = Card(transcriber.recognizer._model)
    gpu = replace(
        transcriber,
        recognizer=card,
        choice=replace(transcriber.choice, provider="cuda"),
        cutting=replace(transcriber.cutting, batch_size=2),
    )
    clip, silence = soundfile.read(CLIPS[0], dtype="float32")[0], np.zeros(48_000, np.float32)
    paths = [tmp_path / f"{number}.wav" for number in range(1 if alone else 3)]
    for path in paths:
        soundfile.write(path, np.concatenate([clip, silence] * 6), 16_000)
    found = [gpu.transcribe(paths[0])] if alone else [*transcribe_many(gpu, paths)]
    assert card.next.is_set()
    for one in found:
        expected = transcriber.transcribe(one.source)  # type: ignore[union-attr]
        assert plain(one).segments == plain(expected).segments
    assert alone is False or card.begun == [3, 3, 3], "the same batches of two in every run"


class Failing(TdtRecognizer):
    """A real model on a card that fails once, in a stage of its second batch."""

    def __init__(self, model: TdtModel, stage: int) -> None:
        super().__init__(replace(model, provider="cuda"))
        self.stage, self.batches = stage, count()

    def decoding(
        self, batch: Sequence[Samples], speech: Sequence[Sequence[float]] = ()
    ) -> Generator[None, None, list[list[Emission]]]:
        number, stages = next(self.batches), super().decoding(batch, speech)
        for stage in range(3):
            if (number, stage) == (1, self.stage):
                raise RuntimeException("CUDA failure 700: an illegal memory access was encountered")
            if stage < 2:
                next(stages)
                yield
        return finished(stages)


@pytest.mark.parametrize("stage", range(3))
def test_where_a_card_fails_in_any_stage_that_batch_runs_on_the_cpu(
    transcriber: ModelTranscriber, stage: int
) -> None:
    assert isinstance(transcriber.recognizer, TdtRecognizer)
    model = transcriber.recognizer._model
    gpu = replace(
        transcriber,
        recognizer=Failing(model, stage),
        choice=replace(transcriber.choice, provider="cuda"),
        cutting=replace(transcriber.cutting, batch_size=2),
        spare=Reserve(lambda: DynamicBatcher(TdtRecognizer(model), 4, 1), name="the CPU"),
    )
    found = [plain(one) for one in transcribe_many(gpu, CLIPS[:4])]
    expected = [plain(transcriber.transcribe(path)) for path in CLIPS[:4]]
    assert [one.text for one in found] == [one.text for one in expected]
    notes = [note for one in found if one.coverage for note in one.coverage.notes]
    assert 1 <= len(notes) <= 2
    assert all("ran on the CPU: cuda failed (CUDA failure 700" in note for note in notes)


def test_on_a_card_each_recording_may_fill_a_batch_and_all_of_them_every_stage(
    transcriber: ModelTranscriber,
) -> None:
    here = Sharing.of(transcriber)
    assert (here.threads, here.recordings) == (2, 3)
    assert here.recognizer is transcriber.recognizer
    assert isinstance(transcriber.recognizer, TdtRecognizer)
    cutting = replace(transcriber.cutting, batch_size=64)
    card = Card(transcriber.recognizer._model)
    there = Sharing.of(replace(transcriber, recognizer=card, cutting=cutting))
    assert (there.recognizer.streams, there.threads, there.recordings) == (64, 192, 17)


@pytest.mark.parametrize(("jobs", "streams"), [("auto", 2), (1, 1), (3, 3)])
def test_so_many_recordings_at_a_time_as_are_asked_for(jobs: Any, streams: int) -> None:
    settings = Settings(model=str(DIGITS), provider="cpu", threads=2, jobs=jobs)
    loaded = load_with(LoadedSettings(settings, None, {}))
    assert loaded.recognizer.streams == streams
    expected = [plain(one) for one in transcribe_many(loaded, CLIPS[:1])]
    with local_pool(loaded, None) as pool:
        assert pool.count == streams + 1
    assert expected[0].text


def test_who_stops_listening_leaves_no_thread(transcriber: ModelTranscriber) -> None:
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


def test_segments_of_a_damaged_recording_end_with_an_error(
    transcriber: ModelTranscriber, tmp_path: Path
) -> None:
    clip = soundfile.read(CLIPS[0], dtype="int16")[0]
    parts = [clip, np.zeros(48_000, np.int16)] * 3
    soundfile.write(tmp_path / "a.wav", np.concatenate(parts), 16_000)
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(content[: len(content) // 2])
    found = []
    with pytest.raises(AudioError, match=r"a\.wav: not all of it: truncated: "):
        for segment in Transcriber(transcriber).segments(tmp_path / "a.wav"):
            found.append(segment.text)
    assert found
    assert list(Transcriber(transcriber).segments(CLIPS[0]))
