"""Set-up, from a folder with the digits model: made, proven, repaired, killed, older manifests."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import random
import shutil
import signal
import sys
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stt.convert import fp16
from stt.convert.counting import Counting
from stt.engine.precision import Known, choose
from stt.engine.sessions import Runtime, runtime_errors
from stt.errors import ModelError, UsageError
from stt.install import conversion, measure, proof, prover, setup
from stt.install.artifacts import Artifact
from stt.install.installation import Events, Installation
from stt.install.setup import SetupOptions, set_up
from stt.install.source import find_source
from stt.models import inspect
from stt.models.onnx_asr_edge import load_tdt
from stt.settings.places import Places
from support.paths import DATA, DIGITS
from support.place import CLIPS, Place

DURATIONS = proof.durations
NOWHERE = Places.only(Path("models"))
pytestmark = pytest.mark.usefixtures("quick")


def call_it_proven(at: Installation, artifact: Artifact, **_: bool) -> None:
    """Make nothing, where making is not what a test is about."""
    at.manifest.judge(artifact.section, artifact.precision, {"proven": True})


def damage(path: Path) -> None:
    """Change one byte."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.slow
def test_the_whole_of_it(new: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its real measurements and proof."""
    monkeypatch.undo()
    new.clips = CLIPS
    new.set_up("fp16")
    manifest = new.manifest
    entry = manifest.precisions["fp16"]
    assert entry["proven"]
    figures = {check["name"]: check["figure"] for check in entry["checks"]}
    assert figures["lengths"] == 0
    assert figures["encoder error"] < 0.01
    assert figures["tokens"] == 1
    assert {row["precision"] for row in manifest.measurements} == {"fp32", "fp16"}
    assert all(row["rtfx"] > 1 and row["load_s"] > 0 for row in manifest.measurements)
    assert manifest.files["encoder-model.fp16.onnx"]["made_from"]
    assert manifest.tools["onnx"]
    assert inspect(new.folder).proofs["fp16"].proven
    assert new.check() == []
    assert [path.name for path in new.models.iterdir()] == ["digits"]


# --- made, kept, repaired -------------------------------------------------------------------------


@pytest.mark.usefixtures("trusting")
def test_what_is_there_is_not_made_again(in_fp16: Place) -> None:
    before = {path: path.stat().st_mtime_ns for path in in_fp16.folder.glob("*.onnx")}
    assert in_fp16.set_up("fp16").made == []
    assert {path: path.stat().st_mtime_ns for path in in_fp16.folder.glob("*.onnx")} == before
    assert len(in_fp16.set_up("fp16", force=True).made) == 2


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize(
    "name", ["encoder-model.onnx.data", "decoder_joint-model.onnx", "encoder-model.fp16.onnx"]
)
def test_a_damaged_file_is_named_and_repaired_alone(in_fp16: Place, name: str) -> None:
    folder = in_fp16.folder
    whole = {path.name: path.read_bytes() for path in folder.glob("*.onnx*")}
    damage(folder / name)
    assert in_fp16.check() == [f"{name} is damaged"]
    in_fp16.set_up("fp16")
    assert {path.name: path.read_bytes() for path in folder.glob("*.onnx*")} == whole
    assert in_fp16.check() == []
    assert len(in_fp16.made) == (2 if "fp16" in name else 0)


def test_a_missing_file_is_named(in_fp16: Place) -> None:
    (in_fp16.folder / "vocab.txt").unlink()
    assert in_fp16.check() == ["vocab.txt is missing"]


@pytest.mark.usefixtures("trusting_forms")
def test_a_conversion_that_fails_its_proof_is_not_installed_nor_tried_again_unasked(
    in_fp32: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds = proof.BOUNDS["fp16"]
    monkeypatch.setitem(proof.BOUNDS, "fp16", proof.Bounds(1e-9, 1e-9))
    in_fp32.set_up("fp16")
    assert "encoder-model.fp16.onnx" not in in_fp32.names
    assert in_fp32.said("failed its proof", "encoder error")
    model = inspect(in_fp32.folder)
    assert not model.proofs["fp16"].proven
    assert model.problems["fp32"] is None
    in_fp32.set_up("fp16", force=True, keep_failed=True)
    assert "encoder-model.fp16.failed.onnx" in in_fp32.names
    assert inspect(in_fp32.folder).problems["fp16"] is not None
    monkeypatch.setitem(proof.BOUNDS, "fp16", bounds)
    assert in_fp32.set_up("fp16").made == []
    assert in_fp32.said("failed its proof before", "--force")
    in_fp32.set_up("fp16", force=True)
    assert in_fp32.manifest.precisions["fp16"]["proven"]


@pytest.mark.parametrize("types_are_read", [True, False])
def test_a_wrong_length_path_fails_its_proof(
    in_fp32: Place, monkeypatch: pytest.MonkeyPatch, *, types_are_read: bool
) -> None:
    """A converter that turns the length arithmetic into float16, as most do, is caught.

    By its types, and without them by running the length path alone, before any audio is run.
    """
    none = Counting(frozenset(), frozenset())
    monkeypatch.setattr(fp16, "find_counting", lambda file, types: none)
    if not types_are_read:
        monkeypatch.setattr(proof, "_half_lengths", lambda file: [])
    in_fp32.set_up("fp16")
    checks = in_fp32.manifest.precisions["fp16"]["checks"]
    failed = {check["name"]: check for check in checks if not check["passed"]}
    assert set(failed) == {"lengths alone"} | ({"length arithmetic"} if types_are_read else set())
    assert failed["lengths alone"]["figure"] > 1_000
    assert "proving fp16" not in in_fp32.stages
    assert in_fp32.said("failed its proof", "of 8,100 lengths miscounted")
    assert "encoder-model.fp16.onnx" not in in_fp32.names


def test_it_runs_in_fp32_as_soon_as_it_is_fetched(new: Place) -> None:
    """At each moment of the rest, what another process finds is whole and usable."""
    seen: list[tuple[str, set[str]]] = []

    def look(stage: str, done: int, total: int) -> None:
        if not new.folder.exists():
            assert stage.startswith(("copying", "trying fp32"))
            return
        model = inspect(new.folder)
        assert model.problems["fp32"] is None
        chosen = choose("auto", Known.of(model, "cpu")).precision
        assert chosen == "fp32" or model.proofs[chosen].proven
        seen.append((stage, {*model.split, *(["tuned"] if model.tuned else []), *model.proofs}))

    installed: list[Path] = []
    new.events = Events(look, new.notes.append, lambda _: None, installed.append)
    new.set_up("fp16")
    assert installed == [new.folder]
    assert seen[0][1] == set()
    assert all(before <= after for (_, before), (_, after) in itertools.pairwise(seen))
    at_measuring = next(usable for stage, usable in seen if stage.startswith("measuring"))
    assert at_measuring == {"fp32", "fp16", "tuned"}


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("gpu", [False, True])
def test_the_order_serves_the_machine(
    new: Place, monkeypatch: pytest.MonkeyPatch, *, gpu: bool
) -> None:
    monkeypatch.setattr(measure, "providers_here", lambda: ["cuda", "cpu"] if gpu else ["cpu"])
    if not gpu:  # the order alone; with a GPU all is made in it
        monkeypatch.setattr(setup, "bring_about", call_it_proven)
    new.set_up("fp16", "int8")
    fp32 = ["fp32, decoder in parts", "fp32 written tighter"]
    half = ["fp16", "fp16, decoder in parts"]
    wanted = [fp32[0], "int8", fp32[1], *half]
    if gpu:
        wanted = [*half, "fp16 for CUDA", "fp32 for CUDA", *fp32, "int8"]
    assert list(new.manifest.timings) == ["fetch", *wanted, "measure"]


def test_longer_utterances_are_proven_when_they_are_wanted(
    in_fp16: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "durations", DURATIONS)
    assert DURATIONS(28.0) == (0.3, 5.0, 20.5, 28.0)
    assert DURATIONS(5.0) == DURATIONS(28.0)
    assert DURATIONS(50.0) == (0.3, 5.0, 20.5, 28.0, 30.0, 45.0, 47.0, 50.0)
    assert set(DURATIONS(399.0)) == {*proof.DURATIONS_S, 28.0} - {1.0, 20.4}
    assert in_fp16.manifest.precisions["fp16"]["longest_s"] == 28.0
    assert in_fp16.set_up("fp16", longest_s=30.0).made == []
    assert "proving fp16" in in_fp16.stages
    assert in_fp16.manifest.precisions["fp16"]["longest_s"] == 30.0
    assert "proving fp16" not in in_fp16.set_up("fp16").stages


@pytest.mark.usefixtures("trusting")
def test_int8_is_made_again_only_where_it_would_be_wrong(
    in_fp32: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unsigned weights are exact everywhere; signed ones of another machine may not be here."""

    def made(*, saturates: bool) -> bool:
        monkeypatch.setattr(conversion, "cpu_saturates", lambda: saturates)
        in_fp32.set_up("int8")
        files = in_fp32.manifest.files
        origins = [e["made_from"] for n, e in files.items() if n.endswith("int8.onnx")]
        assert len(origins) == 2
        forms.append({origin.get("weights") for origin in origins})
        return bool(in_fp32.made)

    def without_weights(entry: dict[str, object]) -> dict[str, object]:
        return {k: v for k, v in entry.items() if (k, v) != ("weights", "uint8")}

    forms: list[set[str | None]] = []
    assert made(saturates=True)
    assert not made(saturates=False)  # a folder from there
    assert forms == [{"uint8"}, {"uint8"}]
    path = in_fp32.folder / "manifest.json"
    noted = json.loads(path.read_text(), object_hook=without_weights)
    path.write_text(json.dumps(noted))  # as signed ones are noted
    assert not made(saturates=False)
    assert made(saturates=True)
    assert forms[-1] == {"uint8"}


@pytest.mark.usefixtures("trusting")
def test_fp32_can_be_dropped_and_comes_back_when_needed(in_fp16: Place) -> None:
    in_fp16.set_up("fp16", keep_fp32=False)
    assert not in_fp16.names & {"encoder-model.onnx", "encoder-model.onnx.data"}
    assert not list(in_fp16.folder.glob("*tuned*"))
    assert in_fp16.manifest.tuned == {}
    assert inspect(in_fp16.folder).problems["fp16"] is None
    assert in_fp16.set_up("fp16", keep_fp32=False).said("everything ordered is there")
    assert "encoder-model.onnx" not in in_fp16.set_up("fp16").names, "what was said lasts"
    assert "encoder-model.onnx" in in_fp16.set_up("fp16", keep_fp32=True).names


@pytest.mark.usefixtures("trusting")
def test_fp16_keeps_in_fp32_what_a_search_found(in_fp32: Place) -> None:
    """`stt setup --precision mixed`: the result is fp16, and the manifest lists what was kept."""
    assert in_fp32.set_up("fp16", search=True, rtol=0.5).said("holds")
    manifest = in_fp32.manifest
    assert manifest.precisions["fp16"]["proven"]
    assert inspect(in_fp32.folder).problems["fp16"] is None
    entry = manifest.files["encoder-model.fp16.onnx"]
    assert (entry["made_from"]["rtol"], entry["made_from"]["atol"]) == (0.5, None)
    assert entry["trials"] >= 1
    assert isinstance(entry["kept_groups"], list)
    assert isinstance(entry["kept_fp32"], list)
    assert in_fp32.set_up("fp16").made == [], "it stays as it was asked for"
    at = in_fp32.at()
    assert conversion.options_of(at, "fp16") == {"rtol": 0.5, "atol": None}
    wider = {"rtol": 0.6, "atol": None}
    assert conversion.options_of(at, "fp16", wider, force=True) == wider
    assert conversion.options_of(at, "fp16", force=True) == {}


def test_manifest_says_everything_in_json(in_fp16: Place) -> None:
    content = json.loads((in_fp16.folder / "manifest.json").read_text())
    assert content["source"] == str(in_fp16.origin)
    steps = ["fetch", "fp32, decoder in parts", "fp32 written tighter", "fp16"]
    assert [step for step in content["timings"] if step != "measure"] == [
        *steps,
        "fp16, decoder in parts",
    ]
    assert {"convert", "load", "speech", "decode"} == set(content["rates"])
    tally = content["files"]["encoder-model.fp16.onnx"]["tally"]
    assert tally["values"] > 1_000_000
    assert np.isfinite(content["precisions"]["fp16"]["checks"][5]["figure"])
    fields = {"name", "passed", "told", "figure", "bound"}
    assert set(content["precisions"]["fp16"]["checks"][0]) == fields


# --- what older versions left ---------------------------------------------------------------------


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("written", ["manifest-2026-11-26.json", "made-2026-11-27/manifest.json"])
def test_a_manifest_of_an_older_version_is_read_and_kept(in_all: Place, written: str) -> None:
    """What the version before `Artifact` made and proved is neither made nor proven again."""
    folder = in_all.folder
    path = folder / "manifest.json"
    ours = json.loads(path.read_text())
    old = json.loads((DATA / written).read_text())
    for name, entry in old["files"].items():
        if name not in ours["files"]:  # parts of int8: no longer made
            (folder / name).write_bytes(b"as it was")
            entry |= {"size": 9, "sha256": sha256(b"as it was").hexdigest()}
    for name, entry in ours["files"].items():
        assert old["files"][name]["made_from"] == entry["made_from"] if "made_from" in entry else 1
        old["files"][name] |= {"size": entry["size"], "sha256": entry["sha256"]}
    path.write_text(json.dumps(old))
    model = inspect(folder)
    assert model.proofs["fp16"].proven
    assert model.split == {"fp32", "fp16"}
    assert model.tuned
    assert model.measured["fp16", "cpu"].rtfx > 1
    assert in_all.set_up("fp16", "int8").made == []
    assert not [stage for stage in in_all.stages if stage.startswith("proving")]
    assert (folder / "encoder-model.int8.onnx").exists()
    assert not (folder / "joint-model.int8.onnx").exists()
    assert in_all.check() == []


@pytest.mark.usefixtures("trusting")
def test_files_of_mixed_that_an_older_version_made_give_way_to_fp16(in_fp16: Place) -> None:
    folder = in_fp16.folder
    path = folder / "manifest.json"
    old = json.loads(path.read_text().replace("fp16", "mixed"))
    for file in list(folder.glob("*.fp16.onnx*")):
        file.rename(file.with_name(file.name.replace("fp16", "mixed")))
    path.write_text(json.dumps(old))
    model = inspect(folder)
    assert model.split == {"fp32"}
    assert "mixed" not in model.problems
    choice = choose("auto", Known.of(model, "cpu"))
    assert choice.precision == "fp32"
    assert "no fp16 files but mixed ones of an older version, run `stt setup`" in choice.reason
    assert in_fp16.check() == []
    in_fp16.set_up("fp16")
    assert not list(folder.glob("*mixed*"))
    new = json.loads(path.read_text())
    assert not any("mixed" in name for name in new["files"])
    assert list(new["precisions"]) == ["fp16"]
    assert {row["precision"] for row in new["measurements"]} == {"fp32", "fp16"}
    assert inspect(folder).proofs["fp16"].proven
    assert in_fp16.check() == []


@pytest.mark.usefixtures("trusting")
def test_copies_that_an_older_version_packed_are_read_past_and_swept(in_fp16: Place) -> None:
    """They held for one processor, and their load times stood in the measurements."""
    folder, rows = in_fp16.folder, in_fp16.manifest.measurements
    for copy in ("packed-fp32", ".packed-fp32.partial", "packed-int8"):  # known, killed, unknown
        (folder / copy).mkdir()
        for name in ("config.json", "encoder-model.onnx", "decoder_joint-model.onnx"):
            shutil.copy(folder / name, folder / copy / name)
    path = folder / "manifest.json"
    old = json.loads(path.read_text())
    listed = {f"packed-fp32/{p.name}": p for p in (folder / "packed-fp32").iterdir()}
    for name, file in listed.items():
        digest = sha256(file.read_bytes()).hexdigest()
        old["files"][name] = {"size": file.stat().st_size, "sha256": digest}
    old["packed"] = {"fp32": {"key": "ab12", "made_from": [], "files": sorted(listed)}}
    old |= {"fast_load": True, "measurements": [row | {"load_s": 0.01} for row in rows]}
    path.write_text(json.dumps(old))
    assert inspect(folder).problems["fp32"] is None
    assert in_fp16.check() == []
    assert load_tdt(inspect(folder), "fp32", Runtime("cpu", 1)).encode(CLIPS[0].samples).size
    assert in_fp16.set_up("fp16").made == []
    assert not list(folder.glob("*packed*"))
    new = json.loads(path.read_text())
    assert not new.keys() & {"packed", "fast_load"}
    assert not any("packed" in name for name in new["files"])
    assert new["measurements"] == rows
    assert in_fp16.check() == []


# --- measured -------------------------------------------------------------------------------------


def test_a_precision_that_does_not_run_is_not_measured(
    in_fp16: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path, precisions: list[str], provider: str, __: object) -> dict[str, ModelError]:
        return {p: ModelError(f"{p} on {provider} did not run: no such device") for p in precisions}

    in_fp16.note(measurements=[])
    monkeypatch.setattr(measure, "compare", refuse)
    assert in_fp16.set_up("fp16").said("not measured: fp16 on cpu did not run: no such device")
    assert in_fp16.manifest.measurements == []


@pytest.mark.usefixtures("trusting")
def test_figures_that_are_compared_are_measured_together(
    in_fp16: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[list[str]] = []

    def fake(_: Path, precisions: list[str], provider: str, __: object) -> dict[str, measure.Speed]:
        timed.append(precisions)
        return {p: measure.Speed(p, provider, 1.0, 1.0, 1.0) for p in precisions}

    in_fp16.note(measurements=[])
    monkeypatch.setattr(measure, "compare", fake)
    monkeypatch.setattr(measure, "providers_here", lambda: ["cpu"])
    in_fp16.set_up("fp16")
    in_fp16.set_up("fp16")
    assert timed == [["fp32", "fp16"]]
    in_fp16.set_up("fp16", "int8")
    assert timed[1:] == [["fp32", "fp16", "int8"]]
    late = ("rtfx_low", "rtfx_high", "turns")  # before precisions were measured in turns
    rows = in_fp16.manifest.measurements
    in_fp16.note(measurements=[{k: v for k, v in r.items() if k not in late} for r in rows])
    assert inspect(in_fp16.folder).measured["fp32", "cpu"].rtfx == 1.0
    in_fp16.set_up("fp16")
    assert timed[2:] == [["fp32", "fp16", "int8"]]


# --- refused, killed ------------------------------------------------------------------------------


def test_no_space_is_said_before_anything_is_written_and_leaves_no_folder(
    new: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(new.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    with pytest.raises(ModelError, match=r"0\.0 GB free where 0\.3 GB are needed"):
        new.set_up("fp16")
    assert not any(new.models.iterdir())


@pytest.mark.parametrize(
    "options",
    [
        {"precisions": ("fp8",)},
        {"rtol": -1.0},
        {"rtol": float("nan")},
        {"atol": float("inf")},
    ],
)
def test_what_cannot_be_made_is_refused(new: Place, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="fp8" if "precisions" in options else "--rtol"):
        set_up(new.source, new.models, SetupOptions(**options), new.events, CLIPS)
    assert not new.models.exists()


def test_what_a_killed_search_left_is_removed(in_fp32: Place) -> None:
    (in_fp32.folder / ".encoder-model.mixed.onnx.trial.onnx").write_bytes(b"left")
    in_fp32.set_up()
    assert not list(in_fp32.folder.glob(".*"))


def run_set_up(root: Path) -> None:
    place = Place.__new__(Place)
    place.__dict__ |= {"models": root / "models", "clips": CLIPS[:4], "stages": [], "notes": []}
    place.source = find_source(str(root / "stick" / "digits"), None, NOWHERE)
    place.events = Events(lambda *_: None, lambda _: None)
    place.set_up("fp16")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
def test_killed_anywhere_it_goes_on_and_ends_right(new: Place, tmp_path: Path) -> None:
    whole = Place(tmp_path / "undisturbed").set_up("fp16").folder
    context = multiprocessing.get_context("fork")
    chance = random.Random(4)
    for _ in range(8):
        process = context.Process(target=run_set_up, args=(new.root,))
        process.start()
        time.sleep(chance.uniform(0.0, 0.9))
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        if new.folder.exists():
            assert inspect(new.folder).problems["fp32"] is None
    new.set_up("fp16")
    assert new.check() == []
    for path in whole.glob("*.onnx*"):
        assert (new.folder / path.name).read_bytes() == path.read_bytes()
    assert not [name for name in new.names if name.startswith(".")]


def test_fp32_that_does_not_run_is_one_line_and_blames_no_conversion(
    in_fp32: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise runtime_errors()[0]("bad allocation\nin a node")

    in_fp32.note(splits={}, tuned={})
    monkeypatch.setattr(prover, "observe", refuse)
    with pytest.raises(ModelError, match=r"fp32 does not run \(bad allocation in a node\); free"):
        in_fp32.set_up("fp16")
    assert inspect(in_fp32.folder).problems["fp32"] is None
    assert in_fp32.manifest.splits == {}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "config.json",
            '{"model_type": "nemo-conformer-tdt", "features_size": 80, "subsampling_factor": 8}',
            "config.json says features_size 80",
        ),
        ("config.json", '{"model_type": "nemo-conformer-tdt", "features_size": 7}', "size 7 is"),
        ("vocab.txt", "", "vocab.txt is empty"),
        ("vocab.txt", "one two three\n", "line 1 is not a token and its number"),
        ("vocab.txt", "a 0\n<blk> 1\n", "vocab.txt has 2 tokens"),
        ("encoder-model.onnx", "no graph", "encoder-model.onnx"),
    ],
)
def test_what_does_not_run_is_not_installed_and_its_file_is_named(
    new: Place, monkeypatch: pytest.MonkeyPatch, name: str, content: str, expected: str
) -> None:
    (broken := new.origin / name).write_text(content)
    new.source = find_source(str(new.origin), None, NOWHERE)
    with pytest.raises(ModelError) as caught:
        new.set_up("fp16")
    message = str(caught.value)
    assert expected in message
    assert "nothing was installed" in message
    assert f"then `stt setup {new.origin}` again" in message
    assert name.endswith(".onnx") or f"correct {broken};" in message.replace(",", ";")
    assert ".partial" not in message
    assert "\n" not in message
    assert {path.name for path in new.models.iterdir()} <= {".digits.lock"}
    monkeypatch.setattr(setup, "bring_about", call_it_proven)
    shutil.copy(DIGITS / name, broken)
    new.source = find_source(str(new.origin), None, NOWHERE)
    new.set_up()
    assert inspect(new.folder).problems["fp32"] is None


# --- where it comes from --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "origin", "expected"),
    [
        ("nothing", None, "no model named nothing"),
        ("parakeet", "nowhere", "--from nowhere"),
        ("/tmp/no", None, "there is no such folder"),
        ("parakeet", "./no", "there is no such folder"),
        ("../no", None, "there is no such folder"),
    ],
)
def test_sources_that_are_none(model: str, origin: str | None, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        find_source(model, origin, NOWHERE)


@pytest.mark.parametrize(
    "model", ["standin", "someone/standin", "someone/standin@main", "a/b/standin/"]
)
def test_a_folder_takes_the_name_that_the_model_has_on_the_hub(new: Place, model: str) -> None:
    found = find_source(model, str(new.origin), Places.only(new.root))
    assert (found.name, found.folder, found.pinned) == ("standin", new.origin, None)


@pytest.mark.usefixtures("trusting")
def test_an_installed_model_is_known_by_its_name(in_fp32: Place) -> None:
    models, vocabulary = Places.only(in_fp32.models), in_fp32.folder / "vocab.txt"
    again = find_source("digits", None, models)
    assert again == replace(in_fp32.source, name="digits")
    vocabulary.write_text("damaged")
    in_fp32.set_up()
    assert not in_fp32.check()
    shutil.rmtree(in_fp32.origin)
    in_fp32.source = find_source("digits", None, models)
    assert in_fp32.source.folder == in_fp32.folder
    in_fp32.set_up()
    damage(vocabulary)
    with pytest.raises(ModelError, match=r"is damaged, and .* is not there"):
        in_fp32.set_up()


def test_a_folder_that_holds_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a model in onnx-asr's layout"):
        find_source(str(tmp_path), None, NOWHERE)
    for kind, expected in (
        ("whisper", "cannot be set up"),
        ("nemo-conformer-tdt", r"vocab\.txt, encoder-model\.onnx"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
        with pytest.raises(ModelError, match=expected):
            find_source(str(tmp_path), None, NOWHERE)


def test_a_catalogued_name_holds_a_folder_against_its_pins(new: Place) -> None:
    new.source = find_source("parakeet", str(new.origin), NOWHERE)
    with pytest.raises(ModelError, match="pinned"):
        new.set_up("fp16")
    assert not (new.models / "parakeet").exists()
