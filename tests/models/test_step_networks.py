"""A decoding round as one graph, against the parts it was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime import InferenceSession

from stt.convert.decoding_step import write_step
from stt.convert.split import split_file
from stt.engine.sessions import Runtime
from stt.errors import NonFiniteOutput
from stt.install.observation import bundled_clips
from stt.models import FAMILIES, inspect
from stt.models.label_looping import label_looping
from stt.models.onnx_asr_edge import TdtModel, load_tdt
from stt.models.split_transducer import SplitTransducer, load_graph
from stt.models.step_networks import StepNetworks
from stt.models.tdt import DURATIONS
from support.paths import DIGITS


@pytest.fixture(scope="module")
def model() -> TdtModel:
    return load_tdt(inspect(DIGITS), "fp32", Runtime("cpu", 1))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("parts")
    paths = [folder / name for name in FAMILIES["nemo-conformer-tdt"].parts("fp32")]
    split_file(DIGITS / "decoder_joint-model.onnx", paths)
    write_step(DIGITS / "decoder_joint-model.onnx", folder / "step.onnx", len(DURATIONS))
    return [*paths, folder / "step.onnx"]


@pytest.fixture(scope="module")
def parts(files: list[Path]) -> SplitTransducer:
    return SplitTransducer(*(load_graph(p, None, ["CPUExecutionProvider"]) for p in files[:3]))


@pytest.mark.parametrize("copies", [1, 3])
def test_it_decodes_as_its_parts_do(
    model: TdtModel, parts: SplitTransducer, files: list[Path], copies: int
) -> None:
    batch = [model.encode(c.samples) for c in bundled_clips(DIGITS / "clips")][:: 4 - copies]
    batch = [*(frames[k:] for k in range(copies) for frames in batch), batch[0][:1]]
    lengths = [len(frames) for frames in batch]
    step = StepNetworks(InferenceSession(files[3]), [parts.project(f) for f in batch])
    found = label_looping(step, lengths, model.vocabulary)
    expected = label_looping(parts.batch(batch, model.vocabulary), lengths, model.vocabulary)
    assert sum(len(one.emissions) for one in found) > 10 * copies
    for one, other in zip(found, expected, strict=True):
        assert one.near_ties == other.near_ties
        assert [(e.id, e.frame, e.duration) for e in one.emissions] == [
            (e.id, e.frame, e.duration) for e in other.emissions
        ]
        np.testing.assert_allclose(
            [e.logprob for e in one.emissions], [e.logprob for e in other.emissions], atol=1e-5
        )


def test_a_collapse_names_the_utterance(
    model: TdtModel, parts: SplitTransducer, files: list[Path]
) -> None:
    projected = [parts.project(model.encode(c.samples)) for c in bundled_clips(DIGITS / "clips")]
    projected = [projected[0], projected[1].copy(), projected[2]]
    projected[1][5:] = np.nan
    step = StepNetworks(InferenceSession(files[3]), projected)
    with pytest.raises(NonFiniteOutput) as caught:
        label_looping(step, [len(one) for one in projected], model.vocabulary)
    assert caught.value.index == 1


def test_nothing_grows_with_the_vocabulary_between_rounds(files: list[Path]) -> None:
    graph = onnx.load(files[3]).graph
    (choices,) = (value for value in graph.output if value.name == "choices")
    assert [d.dim_value for d in choices.type.tensor_type.shape.dim[1:]] == [8, 6]
    assert len(graph.output) == 4
