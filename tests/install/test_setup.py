"""Set-up on the digits model: whatever is interrupted, damaged or wrong, it ends right."""

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

import numpy as np
import pytest

from stt.convert import fp16
from stt.convert.counting import Counting
from stt.engine.manifest import Manifest
from stt.engine.precision import Known, choose
from stt.engine.sessions import Runtime, runtime_errors
from stt.errors import ModelError, UsageError
from stt.install import artifacts, measure, proof, prover, setup
from stt.install.artifacts import Artifact
from stt.install.installation import Events, Installation
from stt.install.observation import Clip, bundled_clips
from stt.install.prover import check
from stt.install.setup import SetupOptions, set_up
from stt.install.source import Source, find_source
from stt.models import inspect
from stt.models.onnx_asr_edge import load_tdt
from stt.settings.places import Places
from support.paths import DATA, DIGITS

DURATIONS = proof.durations
pytestmark = pytest.mark.usefixtures("quick")


class News:
    """Events that are remembered."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.notes: list[str] = []
        self.events = Events(self._progress, self.notes.append)

    def _progress(self, stage: str, done: int, total: int) -> None:
        assert 0 <= done <= total
        if stage not in self.stages[-1:]:
            self.stages.append(stage)

    def made(self) -> list[str]:
        return [stage for stage in self.stages if stage.startswith("converting")]


def install(
    source: Source, models: Path, clips: tuple[Clip, ...], order: SetupOptions | None = None
) -> tuple[Path, News]:
    news = News()
    return set_up(source, models, order or SetupOptions(), news.events, clips), news


def call_it_proven(at: Installation, artifact: Artifact, **_: bool) -> bool:
    """Make nothing, where making is not what a test is about."""
    at.manifest.judge(artifact.section, artifact.precision, {"proven": True})
    return True


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_the_whole_of_it(
    source: Source,
    tmp_path: Path,
    clips: tuple[Clip, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With its real measurements and proof."""
    monkeypatch.undo()
    folder, news = install(source, tmp_path / "models", clips)
    assert folder == tmp_path / "models" / "digits"
    manifest = Manifest.read(folder)
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
    assert inspect(folder).proofs["fp16"].proven
    assert check(folder, news.events, clips) == []
    assert set(names(tmp_path / "models")) == {"digits"}


@pytest.mark.usefixtures("trusting")
def test_what_is_there_is_not_made_again(
    in_fp16: Path, source: Source, tmp_path: Path, clips: tuple[Clip, ...]
) -> None:
    folder = in_fp16
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.onnx")}
    _, news = install(source, tmp_path / "models", clips)
    assert news.made() == []
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.onnx")} == before
    _, news = install(source, tmp_path / "models", clips, SetupOptions(force=True))
    assert len(news.made()) == 2


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize(
    "name", ["encoder-model.onnx.data", "decoder_joint-model.onnx", "encoder-model.fp16.onnx"]
)
def test_a_damaged_file_is_named_and_repaired_alone(
    in_fp16: Path, source: Source, tmp_path: Path, clips: tuple[Clip, ...], name: str
) -> None:
    folder, news = in_fp16, News()
    whole = {path.name: path.read_bytes() for path in folder.glob("*.onnx*")}
    content = bytearray(whole[name])
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    assert check(folder, news.events, clips) == [f"{name} is damaged"]
    _, news = install(source, tmp_path / "models", clips)
    assert {path.name: path.read_bytes() for path in folder.glob("*.onnx*")} == whole
    assert check(folder, news.events, clips) == []
    assert len(news.made()) == (2 if "fp16" in name else 0)


def test_a_missing_file_is_named(
    in_fp16: Path, source: Source, tmp_path: Path, clips: tuple[Clip, ...]
) -> None:
    folder, news = in_fp16, News()
    (folder / "vocab.txt").unlink()
    assert check(folder, news.events, clips) == ["vocab.txt is missing"]


@pytest.mark.usefixtures("trusting_forms")
def test_a_conversion_that_fails_its_proof_is_not_installed(
    in_fp32: Path,
    source: Source,
    tmp_path: Path,
    clips: tuple[Clip, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(proof.BOUNDS, "fp16", proof.Bounds(1e-9, 1e-9))
    folder, news = install(source, tmp_path / "models", clips)
    assert "encoder-model.fp16.onnx" not in names(folder)
    assert any("failed its proof" in note and "encoder error" in note for note in news.notes)
    model = inspect(folder)
    assert not model.proofs["fp16"].proven
    assert model.problems["fp32"] is None
    _, news = install(
        source, tmp_path / "models", clips, SetupOptions(force=True, keep_failed=True)
    )
    assert "encoder-model.fp16.failed.onnx" in names(folder)
    assert inspect(folder).problems["fp16"] is not None


@pytest.mark.parametrize("types_are_read", [True, False])
def test_a_wrong_length_path_fails_its_proof(
    in_fp32: Path,
    source: Source,
    tmp_path: Path,
    clips: tuple[Clip, ...],
    monkeypatch: pytest.MonkeyPatch,
    *,
    types_are_read: bool,
) -> None:
    """A converter that turns the length arithmetic into float16, as most do, is caught.

    By its types, and without them by running the length path alone, before any audio is run.
    """
    none = Counting(frozenset(), frozenset())
    monkeypatch.setattr(fp16, "find_counting", lambda file, types: none)
    if not types_are_read:
        monkeypatch.setattr(proof, "_half_lengths", lambda file: [])
    folder, news = install(source, tmp_path / "models", clips)
    checks = Manifest.read(folder).precisions["fp16"]["checks"]
    failed = {check["name"]: check for check in checks if not check["passed"]}
    assert set(failed) == {"lengths alone"} | ({"length arithmetic"} if types_are_read else set())
    assert failed["lengths alone"]["figure"] > 1_000
    assert "proving fp16" not in news.stages
    assert any("failed its proof" in n and "of 8,100 lengths miscounted" in n for n in news.notes)
    assert "encoder-model.fp16.onnx" not in names(folder)


@pytest.mark.usefixtures("trusting_forms")
def test_what_failed_is_not_tried_again_unasked(
    in_fp32: Path,
    source: Source,
    tmp_path: Path,
    clips: tuple[Clip, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bounds = proof.BOUNDS["fp16"]
    monkeypatch.setitem(proof.BOUNDS, "fp16", proof.Bounds(1e-9, 1e-9))
    install(source, tmp_path / "models", clips)
    monkeypatch.setitem(proof.BOUNDS, "fp16", bounds)
    folder, news = install(source, tmp_path / "models", clips)
    assert news.made() == []
    assert any("failed its proof before" in note and "--force" in note for note in news.notes)
    install(source, tmp_path / "models", clips, SetupOptions(force=True))
    assert Manifest.read(folder).precisions["fp16"]["proven"]


def test_it_runs_in_fp32_as_soon_as_it_is_fetched(
    source: Source,
    tmp_path: Path,
    clips: tuple[Clip, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At each moment of the rest, what another process finds is whole and usable."""
    seen: list[tuple[str, set[str]]] = []
    news = News()

    def look(stage: str, done: int, total: int) -> None:
        folder = tmp_path / "models" / "digits"
        if not folder.exists():
            assert stage.startswith(("copying", "trying fp32"))
            return
        model = inspect(folder)
        assert model.problems["fp32"] is None
        known = Known.of(model, "cpu")
        chosen = choose("auto", known).precision
        assert chosen == "fp32" or model.proofs[chosen].proven
        seen.append((stage, {*model.split, *(["tuned"] if model.tuned else []), *model.proofs}))

    installed: list[Path] = []
    events = Events(look, news.notes.append, lambda _: None, installed.append)
    set_up(source, tmp_path / "models", SetupOptions(), events, clips)
    assert installed == [tmp_path / "models" / "digits"]
    assert seen[0][1] == set()
    grown = [usable for _, usable in seen]
    assert all(before <= after for before, after in itertools.pairwise(grown))
    at_measuring = next(usable for stage, usable in seen if stage.startswith("measuring"))
    assert at_measuring == {"fp32", "fp16", "tuned"}


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("gpu", [False, True])
def test_the_order_serves_the_machine(
    source: Source,
    tmp_path: Path,
    clips: tuple[Clip, ...],
    monkeypatch: pytest.MonkeyPatch,
    *,
    gpu: bool,
) -> None:
    monkeypatch.setattr(measure, "providers_here", lambda: ["cuda", "cpu"] if gpu else ["cpu"])
    if not gpu:  # the order alone; with a GPU all is made in it
        monkeypatch.setattr(setup, "bring_about", call_it_proven)
    folder, _ = install(source, tmp_path / "models", clips, SetupOptions(("fp16", "int8")))
    steps = list(Manifest.read(folder).timings)
    fp32 = ["fp32, decoder in parts", "fp32 written tighter"]
    half = ["fp16", "fp16, decoder in parts"]
    wanted = [fp32[0], "int8", fp32[1], *half]
    if gpu:
        wanted = [*half, "fp16 for CUDA", "fp32 for CUDA", *fp32, "int8"]
    assert steps == ["fetch", *wanted, "measure"]


def test_longer_utterances_are_proven_when_they_are_wanted(
    in_fp16: Path,
    source: Source,
    tmp_path: Path,
    clips: tuple[Clip, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proof, "durations", DURATIONS)
    assert DURATIONS(28.0) == (0.3, 5.0, 20.5, 28.0)
    assert DURATIONS(5.0) == DURATIONS(28.0)
    assert DURATIONS(50.0) == (0.3, 5.0, 20.5, 28.0, 30.0, 45.0, 47.0, 50.0)
    assert set(DURATIONS(399.0)) == {*proof.DURATIONS_S, 28.0} - {1.0, 20.4}
    folder = in_fp16
    assert Manifest.read(folder).precisions["fp16"]["longest_s"] == 28.0
    _, news = install(source, tmp_path / "models", clips, SetupOptions(longest_s=30.0))
    assert news.made() == []
    assert "proving fp16" in news.stages
    assert Manifest.read(folder).precisions["fp16"]["longest_s"] == 30.0
    _, news = install(source, tmp_path / "models", clips)
    assert "proving fp16" not in news.stages


@pytest.mark.usefixtures("trusting")
def test_int8_is_made_again_only_where_it_would_be_wrong(
    in_fp32: Path,
    source: Source,
    tmp_path: Path,
    clips: tuple[Clip, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Unsigned weights are exact everywhere; signed ones of another machine may not be here."""
    order = SetupOptions(("int8",))

    def made() -> bool:
        _, news = install(source, tmp_path / "models", clips, order)
        return any(stage.startswith("quantising") for stage in news.stages)

    def without_weights(entry: dict[str, object]) -> dict[str, object]:
        return {k: v for k, v in entry.items() if (k, v) != ("weights", "uint8")}

    def forms() -> set[str | None]:
        manifest = Manifest.read(tmp_path / "models" / "digits")
        origins = [e["made_from"] for n, e in manifest.files.items() if n.endswith("int8.onnx")]
        assert len(origins) == 2
        return {origin.get("weights") for origin in origins}

    monkeypatch.setattr(artifacts, "cpu_saturates", lambda: True)
    assert made()
    assert forms() == {"uint8"}
    monkeypatch.setattr(artifacts, "cpu_saturates", lambda: False)
    assert not made()  # a folder from there
    assert forms() == {"uint8"}
    path = tmp_path / "models" / "digits" / "manifest.json"
    noted = json.loads(path.read_text(), object_hook=without_weights)
    path.write_text(json.dumps(noted))  # as signed ones are noted
    assert not made()
    monkeypatch.setattr(artifacts, "cpu_saturates", lambda: True)
    assert made()
    assert forms() == {"uint8"}


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("written", ["manifest-2026-11-26.json", "made-2026-11-27/manifest.json"])
def test_a_manifest_of_an_older_version_is_read_and_kept(
    in_all: Path,
    source: Source,
    tmp_path: Path,
    clips: tuple[Clip, ...],
    monkeypatch: pytest.MonkeyPatch,
    written: str,
) -> None:
    """What the version before `Artifact` made and proved is neither made nor proven again."""
    monkeypatch.setattr(artifacts, "cpu_saturates", lambda: False)  # it knew of no such processor
    folder = in_all
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
    _, news = install(source, tmp_path / "models", clips, SetupOptions(("fp16", "int8")))
    assert news.made() == []
    assert not [stage for stage in news.stages if stage.startswith("proving")]
    assert (folder / "encoder-model.int8.onnx").exists()
    assert not (folder / "joint-model.int8.onnx").exists()
    assert check(folder, news.events, clips) == []


@pytest.mark.usefixtures("trusting")
def test_fp32_can_be_dropped_and_comes_back_when_needed(
    in_fp16: Path, source: Source, tmp_path: Path, clips: tuple[Clip, ...]
) -> None:
    folder, _ = install(source, tmp_path / "models", clips, SetupOptions(keep_fp32=False))
    assert "encoder-model.onnx" not in names(folder)
    assert "encoder-model.onnx.data" not in names(folder)
    assert inspect(folder).problems["fp16"] is None
    _, news = install(source, tmp_path / "models", clips, SetupOptions(keep_fp32=False))
    assert any("everything ordered is there" in note for note in news.notes)
    install(source, tmp_path / "models", clips)
    assert "encoder-model.onnx" not in names(folder), "what was said lasts"
    install(source, tmp_path / "models", clips, SetupOptions(keep_fp32=True))
    assert "encoder-model.onnx" in names(folder)


def test_no_space_is_told_before_anything_is_written(
    source: Source,
    tmp_path: Path,
    clips: tuple[Clip, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    with pytest.raises(ModelError, match=r"0\.0 GB free where 0\.3 GB are needed"):
        install(source, tmp_path / "models", clips)
    assert not list((tmp_path / "models").glob("**/*.onnx"))


@pytest.mark.usefixtures("trusting")
def test_fp16_keeps_in_fp32_what_a_search_found(
    in_fp32: Path, source: Source, tmp_path: Path, clips: tuple[Clip, ...]
) -> None:
    """`stt setup --precision mixed`: the result is fp16, and the manifest lists what was kept."""
    searched = SetupOptions(search=True, rtol=0.5)
    folder, news = install(source, tmp_path / "models", clips, searched)
    assert any("holds" in note for note in news.notes)
    manifest = Manifest.read(folder)
    assert manifest.precisions["fp16"]["proven"]
    assert inspect(folder).problems["fp16"] is None
    entry = manifest.files["encoder-model.fp16.onnx"]
    assert (entry["made_from"]["rtol"], entry["made_from"]["atol"]) == (0.5, None)
    assert entry["trials"] >= 1
    assert isinstance(entry["kept_groups"], list)
    assert isinstance(entry["kept_fp32"], list)
    _, news = install(source, tmp_path / "models", clips)
    assert news.made() == [], "it stays as it was asked for"
    at = Installation(folder, news.events)
    assert artifacts.options_of(at, "fp16") == {"rtol": 0.5, "atol": None}
    wider = {"rtol": 0.6, "atol": None}
    assert artifacts.options_of(at, "fp16", wider, force=True) == wider
    assert artifacts.options_of(at, "fp16", force=True) == {}


@pytest.mark.usefixtures("trusting")
def test_files_of_mixed_that_an_older_version_made_give_way_to_fp16(
    in_fp16: Path, source: Source, tmp_path: Path, clips: tuple[Clip, ...]
) -> None:
    folder, news = in_fp16, News()
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
    assert check(folder, news.events, clips) == []
    install(source, tmp_path / "models", clips)
    assert not list(folder.glob("*mixed*"))
    new = json.loads(path.read_text())
    assert not any("mixed" in name for name in new["files"])
    assert list(new["precisions"]) == ["fp16"]
    assert {row["precision"] for row in new["measurements"]} == {"fp32", "fp16"}
    assert inspect(folder).proofs["fp16"].proven
    assert check(folder, news.events, clips) == []


def test_precisions_nobody_makes_are_refused(
    source: Source, tmp_path: Path, clips: tuple[Clip, ...]
) -> None:
    with pytest.raises(UsageError, match="fp8"):
        install(source, tmp_path / "models", clips, SetupOptions(precisions=("fp8",)))
    assert not (tmp_path / "models").exists()


def test_a_precision_that_does_not_run_is_not_measured(
    in_fp16: Path,
    source: Source,
    tmp_path: Path,
    clips: tuple[Clip, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(
        folder: Path, precisions: list[str], provider: str, report: object
    ) -> dict[str, ModelError]:
        return {p: ModelError(f"{p} on {provider} did not run: no such device") for p in precisions}

    manifest = Manifest.read(in_fp16)
    manifest.measurements = []
    manifest.save(in_fp16)
    monkeypatch.setattr(measure, "compare", refuse)
    folder, news = install(source, tmp_path / "models", clips)
    assert any("not measured: fp16 on cpu did not run: no such device" in n for n in news.notes)
    assert Manifest.read(folder).measurements == []


def run_set_up(stick: str, models: str) -> None:
    proof.durations = lambda longest_s: (0.3, 5.0)
    measure.compare = lambda f, precisions, provider, report: {
        p: measure.Speed(p, provider, 9.0, 1, 1) for p in precisions
    }
    clips = bundled_clips(DIGITS / "clips")
    set_up(
        find_source(stick, None, Places.only(Path("models"))),
        Path(models),
        SetupOptions(),
        News().events,
        clips,
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
def test_killed_anywhere_it_goes_on_and_ends_right(
    source: Source, tmp_path: Path, clips: tuple[Clip, ...]
) -> None:
    whole, _ = install(source, tmp_path / "undisturbed", clips)
    context = multiprocessing.get_context("fork")
    chance = random.Random(4)
    for _ in range(8):
        process = context.Process(
            target=run_set_up, args=(str(source.folder), str(tmp_path / "models"))
        )
        process.start()
        time.sleep(chance.uniform(0.0, 0.9))
        assert process.pid is not None
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        folder = tmp_path / "models" / "digits"
        if folder.exists():
            assert inspect(folder).problems["fp32"] is None
    folder, news = install(source, tmp_path / "models", clips)
    assert check(folder, news.events, clips) == []
    for path in whole.glob("*.onnx*"):
        assert (folder / path.name).read_bytes() == path.read_bytes()
    assert not [name for name in names(folder) if name.startswith(".")]


def test_manifest_says_everything_in_json(
    in_fp16: Path, source: Source, tmp_path: Path, clips: tuple[Clip, ...]
) -> None:
    folder = in_fp16
    content = json.loads((folder / "manifest.json").read_text())
    assert content["source"] == str(source.folder)
    steps = ["fetch", "fp32, decoder in parts", "fp32 written tighter", "fp16"]
    assert list(content["timings"]) == [*steps, "fp16, decoder in parts", "measure"]
    assert {"convert", "load", "speech", "decode"} == set(content["rates"])
    tally = content["files"]["encoder-model.fp16.onnx"]["tally"]
    assert tally["values"] > 1_000_000
    assert np.isfinite(content["precisions"]["fp16"]["checks"][5]["figure"])


@pytest.mark.parametrize(
    ("model", "origin", "error", "expected"),
    [
        ("nothing", None, UsageError, "no model named nothing"),
        ("parakeet", "nowhere", UsageError, "--from nowhere"),
    ],
)
def test_sources_that_are_none(
    model: str, origin: str | None, error: type[Exception], expected: str
) -> None:
    with pytest.raises(error, match=expected):
        find_source(model, origin, Places.only(Path("models")))


@pytest.mark.parametrize(
    "model", ["standin", "someone/standin", "someone/standin@main", "a/b/standin/"]
)
def test_a_folder_takes_the_name_that_the_model_has_on_the_hub(
    source: Source, tmp_path: Path, model: str
) -> None:
    found = find_source(model, str(source.folder), Places.only(tmp_path))
    assert (found.name, found.folder, found.pinned) == ("standin", source.folder, None)


def test_a_path_that_is_not_there_is_no_name_on_the_hub(tmp_path: Path) -> None:
    for model, origin in ((str(tmp_path / "no"), None), ("parakeet", "./no"), ("../no", None)):
        with pytest.raises(UsageError, match="there is no such folder"):
            find_source(model, origin, Places.only(tmp_path))


@pytest.mark.usefixtures("trusting")
def test_an_installed_model_is_known_by_its_name(
    in_fp32: Path, source: Source, tmp_path: Path, clips: tuple[Clip, ...]
) -> None:
    models = tmp_path / "models"
    folder = in_fp32
    again = find_source("digits", None, Places.only(models))
    assert again == replace(source, name="digits")
    (folder / "vocab.txt").write_text("damaged")
    install(again, models, clips, SetupOptions(precisions=()))
    assert not check(folder, News().events, clips)
    shutil.rmtree(str(source.folder))
    alone = find_source("digits", None, Places.only(models))
    assert alone.folder == folder
    install(alone, models, clips, SetupOptions(precisions=()))
    content = bytearray((folder / "vocab.txt").read_bytes())
    content[0] ^= 1
    (folder / "vocab.txt").write_bytes(content)
    with pytest.raises(ModelError, match=r"is damaged, and .* is not there"):
        install(alone, models, clips, SetupOptions(precisions=()))


@pytest.mark.parametrize(
    "order",
    [
        SetupOptions(("bogus",)),
        SetupOptions(rtol=-1.0),
        SetupOptions(rtol=float("nan")),
        SetupOptions(atol=float("inf")),
    ],
)
def test_what_cannot_be_made_is_refused(order: SetupOptions) -> None:
    with pytest.raises(UsageError):
        order.check()


def test_a_failed_import_leaves_no_empty_folder(
    source: Source,
    tmp_path: Path,
    clips: tuple[Clip, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    with pytest.raises(ModelError):
        install(source, tmp_path / "models", clips)
    assert not any((tmp_path / "models").iterdir())


def test_what_a_killed_search_left_is_removed(
    in_fp32: Path, source: Source, tmp_path: Path, clips: tuple[Clip, ...]
) -> None:
    folder = in_fp32
    (folder / ".encoder-model.mixed.onnx.trial.onnx").write_bytes(b"left")
    install(source, tmp_path / "models", clips, SetupOptions(precisions=()))
    assert not list(folder.glob(".*"))


@pytest.mark.usefixtures("trusting")
def test_copies_that_an_older_version_packed_are_read_past_and_swept(
    in_fp16: Path, source: Source, tmp_path: Path, clips: tuple[Clip, ...]
) -> None:
    """They held for one processor, and their load times stood in the measurements."""
    folder, news = in_fp16, News()
    rows = Manifest.read(folder).measurements
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
    assert check(folder, news.events, clips) == []
    assert load_tdt(inspect(folder), "fp32", Runtime("cpu", 1)).encode(clips[0].samples).size
    _, news = install(source, tmp_path / "models", clips)
    assert news.made() == []
    assert not list(folder.glob("*packed*"))
    new = json.loads(path.read_text())
    assert not new.keys() & {"packed", "fast_load"}
    assert not any("packed" in name for name in new["files"])
    assert new["measurements"] == rows
    assert check(folder, news.events, clips) == []


@pytest.mark.usefixtures("trusting")
def test_figures_that_are_compared_are_measured_together(
    in_fp16: Path,
    source: Source,
    tmp_path: Path,
    clips: tuple[Clip, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timed: list[list[str]] = []
    manifest = Manifest.read(in_fp16)
    manifest.measurements = []
    manifest.save(in_fp16)

    def fake(
        folder: Path, precisions: list[str], provider: str, report: object
    ) -> dict[str, measure.Speed]:
        timed.append(precisions)
        return {p: measure.Speed(p, provider, 1.0, 1.0, 1.0) for p in precisions}

    monkeypatch.setattr(measure, "compare", fake)
    monkeypatch.setattr(measure, "providers_here", lambda: ["cpu"])
    install(source, tmp_path / "models", clips)
    install(source, tmp_path / "models", clips)
    assert timed == [["fp32", "fp16"]]
    folder, _ = install(
        source, tmp_path / "models", clips, SetupOptions(precisions=("fp16", "int8"))
    )
    assert timed[1:] == [["fp32", "fp16", "int8"]]
    manifest = Manifest.read(folder)
    for row in manifest.measurements:  # as they were before they were measured in turns
        for key in ("rtfx_low", "rtfx_high", "turns"):
            del row[key]
    manifest.save(folder)
    assert inspect(folder).measured["fp32", "cpu"].rtfx == 1.0
    install(source, tmp_path / "models", clips)
    assert timed[2:] == [["fp32", "fp16", "int8"]]


def test_a_folder_that_holds_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a model in onnx-asr's layout"):
        find_source(str(tmp_path), None, Places.only(Path("models")))
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    with pytest.raises(ModelError, match="cannot be set up"):
        find_source(str(tmp_path), None, Places.only(Path("models")))
    (tmp_path / "config.json").write_text('{"model_type": "nemo-conformer-tdt"}')
    with pytest.raises(ModelError, match=r"vocab\.txt, encoder-model\.onnx"):
        find_source(str(tmp_path), None, Places.only(Path("models")))


def test_a_catalogued_name_holds_a_folder_against_its_pins(
    source: Source, tmp_path: Path, clips: tuple[Clip, ...]
) -> None:
    parakeet = find_source("parakeet", str(source.folder), Places.only(Path("models")))
    with pytest.raises(ModelError, match="pinned"):
        install(parakeet, tmp_path / "models", clips)
    assert not (tmp_path / "models" / "parakeet").exists()


def test_fp32_that_does_not_run_is_one_line_and_blames_no_conversion(
    in_fp32: Path,
    source: Source,
    tmp_path: Path,
    clips: tuple[Clip, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise runtime_errors()[0]("bad allocation\nin a node")

    at = Installation(in_fp32, News().events)
    at.manifest.splits.clear()
    at.manifest.tuned.clear()
    at.save()
    monkeypatch.setattr(prover, "observe", refuse)
    with pytest.raises(ModelError, match=r"fp32 does not run \(bad allocation in a node\); free"):
        install(source, tmp_path / "models", clips)
    monkeypatch.undo()
    folder = tmp_path / "models" / "digits"
    assert inspect(folder).problems["fp32"] is None
    assert Manifest.read(folder).splits == {}


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
    source: Source,
    tmp_path: Path,
    clips: tuple[Clip, ...],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    content: str,
    expected: str,
) -> None:
    assert source.folder is not None
    (broken := source.folder / name).write_text(content)
    again = find_source(str(source.folder), None, Places.only(Path("models")))
    with pytest.raises(ModelError) as caught:
        install(again, tmp_path / "models", clips)
    message = str(caught.value)
    assert expected in message
    assert "nothing was installed" in message
    assert f"then `stt setup {source.folder}` again" in message
    assert name.endswith(".onnx") or f"correct {broken};" in message.replace(",", ";")
    assert ".partial" not in message
    assert "\n" not in message
    assert names(tmp_path / "models") <= {".digits.lock"}
    monkeypatch.setattr(setup, "bring_about", call_it_proven)
    shutil.copy(DIGITS / name, broken)
    right = find_source(str(source.folder), None, Places.only(Path("models")))
    folder, _ = install(right, tmp_path / "models", clips, SetupOptions(()))
    assert inspect(folder).problems["fp32"] is None
