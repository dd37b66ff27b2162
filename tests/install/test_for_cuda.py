"""Forms for CUDA on the digits model: made, proven, used where CUDA runs, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from weakref import WeakSet

import pytest

from stt.engine.sessions import Runtime
from stt.install.setup import SetupOptions
from stt.models import card_decoder, card_features, inspect, onnx_asr_edge, split_transducer
from stt.models.onnx_asr_edge import TdtModel, load_tdt
from stt.models.transducer import TdtRecognizer
from support.place import CLIPS, Place, make_quick

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, made_fp16: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        place = Place(tmp_path_factory.mktemp("cuda"), made_fp16)
        return place.set_up("fp16", provider="cuda").folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Place:
    return Place(tmp_path, made)


def on_cuda(folder: Path, precision: str, monkeypatch: pytest.MonkeyPatch) -> TdtModel:
    """Load as on a card: the files of CUDA, on this machine's processor."""
    for module in (onnx_asr_edge, split_transducer, card_features):
        monkeypatch.setattr(module, "session_providers", lambda _: ["CPUExecutionProvider"])
    return load_tdt(inspect(folder), precision, Runtime("cuda", 1))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_card_runs_them_and_hears_the_same(
    place: Place, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert inspect(place.folder).cuda == {"fp32", "fp16"}
    plain = load_tdt(inspect(place.folder), precision, Runtime("cpu", 1))
    card = on_cuda(place.folder, precision, monkeypatch)
    assert card.asr._encoder._model_path.endswith("cuda.onnx")
    assert (plain.card, card.split) == (None, None)
    assert card.card is not None
    assert card.card_features is not None
    still = replace(card, card_features=None)
    clips = [clip.samples for clip in CLIPS[:3]]
    expected = TdtRecognizer(plain).decode(clips)
    for found in (TdtRecognizer(card).decode(clips), TdtRecognizer(still).decode(clips)):
        assert [[(e.id, e.frame, e.duration) for e in one] for one in found] == [
            [(e.id, e.frame, e.duration) for e in one] for one in expected
        ]


def test_cuda_graphs_are_for_what_is_loaded_when_nothing_else_is(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_decoder, "CUDA_GRAPHS", True)
    monkeypatch.setattr(card_decoder, "_LOADED", WeakSet())
    folder = inspect(place.folder)
    first = card_decoder.load_card_decoder(folder, "fp16", Runtime("cpu", 1))
    takes_over = card_decoder.load_card_decoder(folder, "fp32", Runtime("cpu", 1))
    assert (len(first._kept), len(takes_over._kept)) == (len(card_decoder.ROWS), 0)


def test_what_is_there_is_not_made_again_and_checked_with_the_rest(place: Place) -> None:
    place.set_up("fp16", provider="cuda")
    assert not [note for note in place.notes if "CUDA" in note]
    assert place.check() == []


def test_a_damaged_one_is_not_used_and_is_made_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.folder / "decoding_step-model.fp16.cuda.onnx").write_bytes(b"damaged")
    assert inspect(place.folder).cuda == {"fp32"}
    assert on_cuda(place.folder, "fp16", monkeypatch).card is None
    place.set_up("fp16", provider="cuda")
    assert inspect(place.folder).cuda == {"fp32", "fp16"}
    assert [note.split(":")[0] for note in place.notes if "CUDA" in note] == [
        "fp16",
        "fp16 for CUDA",
    ]


def test_they_share_the_weights_of_what_they_were_made_of(place: Place) -> None:
    for name in ("encoder-model.fp16", "encoder-model"):
        form = place.folder / f"{name}.cuda.onnx"
        sources = [*place.folder.glob(f"{name}.onnx*")]
        assert form.stat().st_size < 0.7 * sum(path.stat().st_size for path in sources)


def test_without_a_card_none_is_made_unasked(in_fp32: Place) -> None:
    assert SetupOptions().provider == "auto"
    in_fp32.set_up(force=True)
    assert not [*in_fp32.folder.glob("*cuda*")]
