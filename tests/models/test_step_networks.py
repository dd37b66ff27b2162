"""A decoding round as one graph, against the parts it was made of."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime import OrtValue

from stt.convert.decoding_step import write_step
from stt.convert.split import split_file
from stt.engine.sessions import Runtime, session_providers, with_cuda_graphs
from stt.engine.stages import finished
from stt.errors import NonFiniteOutput
from stt.install.observation import bundled_clips
from stt.models import FAMILIES, card_decoder, inspect
from stt.models.card_decoder import CardDecoder
from stt.models.card_features import CardFeatures
from stt.models.label_looping import label_looping
from stt.models.nemo import encoding
from stt.models.onnx_asr_edge import TdtModel, load_tdt, mel_filters
from stt.models.split_transducer import SplitTransducer, load_graph
from stt.models.step_networks import CardFrames, Rounds
from stt.models.tdt import DURATIONS, Emission
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


@pytest.fixture(scope="module")
def card(files: list[Path]) -> CardDecoder:
    """The form for CUDA, run on the processor."""
    return CardDecoder(*(load_graph(files[i], None, ["CPUExecutionProvider"]) for i in (1, 3)))


@pytest.mark.parametrize("copies", [1, 3])
def test_it_decodes_as_its_parts_do(
    model: TdtModel, parts: SplitTransducer, card: CardDecoder, copies: int
) -> None:
    batch = [model.encode(c.samples) for c in bundled_clips(DIGITS / "clips")][:: 4 - copies]
    batch = [*(frames[k:] for k in range(copies) for frames in batch), batch[0][:1], batch[0][:0]]
    lengths = [len(frames) for frames in batch]
    found = label_looping(card.networks(card.placed(batch)), lengths, model.vocabulary)
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


def test_from_the_encoder_to_the_tokens_nothing_passes_through_memory_but_small_arrays(
    model: TdtModel, card: CardDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [c.samples for c in bundled_clips(DIGITS / "clips")][:6]
    batch = [*clips, *(np.tile(clip, 3) for clip in clips)]
    here = replace(model, provider="cuda")
    computed = CardFeatures(mel_filters(128), Runtime("cpu", 1))
    there = replace(here, card=card, card_features=computed)
    expected = here.decode(here.frames(finished(encoding(here, batch))))
    read: list[tuple[int, ...]] = []
    numpy = OrtValue.numpy
    monkeypatch.setattr(OrtValue, "numpy", lambda v: read.append(tuple(v.shape())) or numpy(v))
    groups = finished(encoding(there, batch))
    frames = there.frames(groups)
    found = there.decode(frames)
    assert len(groups) > 1
    assert {len(places) for places, _ in groups} != {1}
    assert {shape for shape in read if len(shape) > 1} == {(len(batch), 8, 6)}
    assert sorted(shape[0] for shape in read if len(shape) == 1) == sorted(
        len(places) for places, _ in groups
    )
    assert all(isinstance(one, CardFrames) for one in frames)
    assert [list(map(_place, one.emissions)) for one in found] == [
        list(map(_place, one.emissions)) for one in expected
    ]
    monkeypatch.undo()
    again = there.decode([one[2:] for one in frames])  # a stretch, as where it decodes again
    shorter = here.decode([one[2:] for one in here.frames(finished(encoding(here, batch)))])
    assert [[e.id for e in one.emissions] for one in again] == [
        [e.id for e in one.emissions] for one in shorter
    ]


def _place(emission: Emission) -> tuple[int, int, int]:
    return emission.id, emission.frame, emission.duration


def test_rounds_fixed_in_shape_and_place_serve_batch_after_batch(
    model: TdtModel, files: list[Path], card: CardDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_decoder, "ROWS", (1, 4))
    monkeypatch.setattr(card_decoder, "ROOM", 50)
    step = load_graph(files[3], None, ["CPUExecutionProvider"])
    kept = CardDecoder(load_graph(files[1], None, ["CPUExecutionProvider"]), step, graphs=True)
    assert sorted(kept._kept) == [1, 4], "captured before anybody else is at work"
    ran: list[tuple[str, int]] = []
    run = Rounds.run

    def noted(self: Rounds, orders: Any) -> Any:
        ran.append((threading.current_thread().name, id(self)))
        return run(self, orders)

    monkeypatch.setattr(Rounds, "run", noted)
    frames = [model.encode(c.samples)[:45] for c in bundled_clips(DIGITS / "clips")]
    there = replace(model, card=kept)
    batches = [frames[:3], frames[3:4], frames[4:8], frames[:5], frames[8:10], frames[:1] * 2]
    batches += [[np.concatenate([frames[0]] * 5)], frames[:3]]
    used = []
    for batch in batches:
        lengths = [len(one) for one in batch]
        expected = label_looping(card.networks(card.placed(batch)), lengths, model.vocabulary)
        ran.clear()
        assert there.working(lambda b=batch: there.decode(b)) == expected
        (who,) = set(ran)
        assert who[0].startswith("decoder"), "one thread, as CUDA graphs demand"
        used.append(who[1])
    fours = [place for place, batch in enumerate(batches) if 1 < len(batch) <= 4]
    assert {used[place] for place in fours} == {id(kept._kept[4])}
    assert used[1] == id(kept._kept[1])
    assert not {used[3], used[6]} & {id(one) for one in kept._kept.values()}, "too large"
    asked = [
        one.get_run_config_entry("gpu_graph_id") for r in kept._kept.values() for one in r._options
    ]
    assert sorted(asked) == ["1", "2", "3", "4"]


def test_a_round_has_what_a_cuda_graph_may_have(files: list[Path]) -> None:
    """No control flow, and nothing that ONNX Runtime has no kernel of on CUDA."""
    kinds = {node.op_type for node in onnx.load(files[3]).graph.node}
    assert kinds <= {
        *("Add", "Cast", "Concat", "Constant", "Exp", "Gather", "Identity", "LSTM", "Log"),
        *("MatMul", "Mul", "Neg", "ReduceSum", "Relu", "Reshape", "Slice", "Squeeze", "Sub"),
        *("TopK", "Transpose", "Unsqueeze", "Where"),
    }
    (cuda, options), cpu = with_cuda_graphs(session_providers("cuda"))
    assert (cuda, cpu) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert options == session_providers("cuda")[0][1] | {"enable_cuda_graph": "1"}


@pytest.mark.parametrize("begin", [0, 5])
def test_a_collapse_names_the_utterance(model: TdtModel, card: CardDecoder, begin: int) -> None:
    frames = [model.encode(c.samples) for c in bundled_clips(DIGITS / "clips")[:3]]
    frames[1] = frames[1].copy()
    frames[1][begin:] = np.nan
    step = card.networks(card.placed(frames))
    with pytest.raises(NonFiniteOutput) as caught:
        label_looping(step, [len(one) for one in frames], model.vocabulary)
    assert caught.value.index == 1


def test_what_is_no_number_shows_where_a_relu_would_hide_it(files: list[Path]) -> None:
    """ONNX Runtime's Relu on CUDA gives 0 for NaN: what goes into the joint is looked at too."""
    graph = onnx.load(files[3]).graph
    made_of = {name: node for node in graph.node for name in node.output}
    looked_at, names = set(), ["check"]
    while names:
        node = made_of[names.pop()]
        if node.op_type == "Mul":
            looked_at.add(node.input[0])
        else:
            names += [name for name in node.input if name in made_of]
    assert looked_at == {"window", "new_prediction", "joint/outputs"}


def test_nothing_grows_with_the_vocabulary_between_rounds(files: list[Path]) -> None:
    graph = onnx.load(files[3]).graph
    (choices,) = (value for value in graph.output if value.name == "choices")
    assert [d.dim_value for d in choices.type.tensor_type.shape.dim[1:]] == [8, 6]
    assert len(graph.output) == 4
