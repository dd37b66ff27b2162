"""Downloads against a hub on loopback that misbehaves: every failure has its own line and cure."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from stt.engine.manifest import Manifest
from stt.errors import ModelError, UsageError
from stt.install import download as download_module
from stt.install import hub as module
from stt.install.catalog import KNOWN, PinnedFile, PinnedModel
from stt.install.download import download, import_folder
from stt.install.locate import inventory
from stt.install.source import find_source, resolve
from stt.settings.places import Places
from support.hub import API, COMMIT, Hub, use

REPO = "someone/tiny"
ENCODER = "encoder-model.onnx"
CONTENT = {
    "config.json": b'{"model_type": "nemo-conformer-tdt"}',
    "vocab.txt": b"<blk> 0\n",
    "encoder-model.onnx": random.Random(1).randbytes(300_000),
    "encoder-model.onnx.data": random.Random(2).randbytes(50_000),
    "decoder_joint-model.onnx": b"decoder",
}
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
ONE_LINE = re.compile(r"[^\n]+")


def pin(name: str, content: bytes) -> PinnedFile:
    return PinnedFile(name, len(content), hashlib.sha256(content).hexdigest())


TINY = PinnedModel("tiny", REPO, COMMIT, "CC0", "", tuple(pin(n, c) for n, c in CONTENT.items()))
(THE_ENCODER,) = (file for file in TINY.files if file.name == ENCODER)


def write(folder: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No proxy, token or offline mode of the machine; short waits."""
    for name in [*PROXIES, *map(str.lower, PROXIES), "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)  # imported here before stt's
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    monkeypatch.setattr(module, "_PAUSES_S", (0.01, 0.01, 0.02, 0.02))
    close_session()
    yield
    close_session()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub(write(tmp_path / "hub", CONTENT), REPO) as server:
        use(monkeypatch, server.url)
        yield server


class Reports(list[tuple[str, int, int]]):
    def __call__(self, *said: object) -> None:
        self.append(said)  # type: ignore[arg-type]

    def of(self, stage: str) -> list[tuple[int, int]]:
        return [(done, total) for name, done, total in self if name.startswith(stage)]


def ignore(stage: str, done: int, total: int) -> None:
    pass


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refused(folder: Path, *, files: tuple[PinnedFile, ...] = TINY.files) -> str:
    """The message of a download that fails; no file that is not right has got its name."""
    with pytest.raises(ModelError) as caught:
        download(TINY, files, folder, ignore)
    for name in set(names(folder)) & set(CONTENT):
        assert (folder / name).read_bytes() == CONTENT[name]
    assert ONE_LINE.fullmatch(str(caught.value))
    return str(caught.value)


# -- a good hub ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cdn", [False, True])
def test_every_file_arrives_proven_under_its_name(tmp_path: Path, hub: Hub, cdn: bool) -> None:
    hub.cdn = cdn
    folder, reports = tmp_path / "new" / "folder", Reports()
    hashes = download(TINY, TINY.files, folder, reports)
    assert hashes == {file.name: file.sha256 for file in TINY.files}
    assert list(hashes) == list(CONTENT)
    assert names(folder) == sorted(CONTENT)
    assert all((folder / name).read_bytes() == data for name, data in CONTENT.items())
    assert reports.of(f"downloading {ENCODER}")[0] == (0, 300_000)
    assert (300_000, 300_000) in reports.of(f"downloading {ENCODER}")
    assert [e.path for e in hub.log if COMMIT not in e.path and "cdn" not in e.path] == []


def test_what_is_there_and_right_is_not_fetched_again(tmp_path: Path, hub: Hub) -> None:
    folder = write(tmp_path / "folder", CONTENT)
    assert download(TINY, TINY.files, folder, ignore)[ENCODER] == THE_ENCODER.sha256
    assert not hub.log


@pytest.mark.parametrize("damage", [b"short", bytes(300_000)])
def test_a_damaged_file_is_named_and_repaired_alone(
    tmp_path: Path, hub: Hub, damage: bytes
) -> None:
    folder = write(tmp_path / "folder", {**CONTENT, ENCODER: damage})
    reports = Reports()
    download(TINY, TINY.files, folder, reports)
    assert reports.of(f"replacing {ENCODER}, it is damaged (")
    assert (folder / ENCODER).read_bytes() == CONTENT[ENCODER]
    assert {entry.name for entry in hub.log} == {ENCODER}


def test_one_file_can_be_asked_for(tmp_path: Path, hub: Hub) -> None:
    assert list(download(TINY, [THE_ENCODER], tmp_path / "folder", ignore)) == [ENCODER]
    assert names(tmp_path / "folder") == [ENCODER]


def test_an_empty_file_and_one_without_a_sum_are_checked_by_size(tmp_path: Path) -> None:
    content = {"empty": b"", "plain": b"12345"}
    with Hub(write(tmp_path / "hub", content), REPO) as server, pytest.MonkeyPatch.context() as m:
        use(m, server.url)
        pins = [PinnedFile("empty", 0, None), PinnedFile("plain", 5, None)]
        hashes = download(TINY, pins, tmp_path / "folder", ignore)
    assert hashes["plain"] == hashlib.sha256(b"12345").hexdigest()
    assert (tmp_path / "folder" / "empty").read_bytes() == b""


def test_progress_goes_on_during_a_file(tmp_path: Path, hub: Hub) -> None:
    hub.misbehave(ENCODER, "throttle", 500_000)
    reports = Reports()
    download(TINY, [THE_ENCODER], tmp_path / "folder", reports)
    done = [bytes_done for bytes_done, _ in reports.of("downloading")]
    assert len(done) >= 4
    assert done == sorted(done)


def test_parts_of_other_versions_and_killed_imports_go_away(tmp_path: Path, hub: Hub) -> None:
    folder = tmp_path / "folder"
    parts = {f".{ENCODER}.{key}.part": b"old" for key in ("0123456789ab", "copy")}
    write(folder, {**parts, f".{ENCODER}.data.0123456789ab.part": b"of another file"})
    download(TINY, [THE_ENCODER], folder, ignore)
    assert names(folder) == [f".{ENCODER}.data.0123456789ab.part", ENCODER]


# -- resuming --------------------------------------------------------------------------------------


def part_of(folder: Path, file: PinnedFile = THE_ENCODER) -> Path:
    return folder / f".{file.name}.{str(file.sha256)[:12]}.part"


@pytest.mark.parametrize("cdn", [False, True])
@pytest.mark.parametrize("have", [1, 65_537, 299_999, 300_000])
def test_it_goes_on_at_any_byte(tmp_path: Path, hub: Hub, have: int, cdn: bool) -> None:
    hub.cdn = cdn
    folder, reports = tmp_path / "folder", Reports()
    write(folder, {part_of(folder).name: CONTENT[ENCODER][:have]})
    download(TINY, [THE_ENCODER], folder, reports)
    assert (folder / ENCODER).read_bytes() == CONTENT[ENCODER]
    assert hub.bytes_sent(ENCODER) == 300_000 - have
    assert hub.starts(ENCODER) == ([have] if have < 300_000 else [])
    assert reports.of("downloading")[0] == (have, 300_000)


def test_a_server_without_ranges_sends_all_again(tmp_path: Path, hub: Hub) -> None:
    hub.misbehave(ENCODER, "no_ranges")
    folder = tmp_path / "folder"
    write(folder, {part_of(folder).name: b"x" * 1000})
    download(TINY, [THE_ENCODER], folder, ignore)
    assert (folder / ENCODER).read_bytes() == CONTENT[ENCODER]


def test_a_part_that_is_too_long_or_wrong_is_not_trusted(tmp_path: Path, hub: Hub) -> None:
    folder = tmp_path / "folder"
    write(folder, {part_of(folder).name: bytes(300_001)})
    download(TINY, [THE_ENCODER], folder, ignore)
    (folder / ENCODER).unlink()
    write(folder, {part_of(folder).name: bytes(1000)})
    assert "arrived changed" in refused(folder)
    download(TINY, [THE_ENCODER], folder, ignore)
    assert hub.starts(ENCODER) == [0, 1000, 0]


def test_dropped_connections_are_taken_up_where_they_ended(tmp_path: Path, hub: Hub) -> None:
    for byte in (0, 100_000, 200_001):
        hub.misbehave(ENCODER, "drop", byte, times=1)
    # each GET uses up one drop, as `fault` takes the first of a kind that is left
    download(TINY, [THE_ENCODER], tmp_path / "folder", ignore)
    assert hub.starts(ENCODER) == [0, 0, 100_000, 200_001]
    assert hub.bytes_sent(ENCODER) == 300_000


def test_an_answer_without_length_that_ends_early_is_a_dropped_one(
    tmp_path: Path, hub: Hub
) -> None:
    hub.misbehave(ENCODER, "no_length")
    hub.misbehave(ENCODER, "drop", 100_000, times=1)
    download(TINY, [THE_ENCODER], tmp_path / "folder", ignore)
    assert hub.starts(ENCODER) == [0, 100_000]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_hub_is_asked_again(tmp_path: Path, hub: Hub, status: int) -> None:
    hub.misbehave(ENCODER, "status", status, times=2)
    download(TINY, [THE_ENCODER], tmp_path / "folder", ignore)
    assert len(hub.log) == 3


CHILD = """
import json, sys
from pathlib import Path
from stt.errors import ModelError
from stt.install.catalog import PinnedFile, PinnedModel
from stt.install.download import download

model, files, folder = json.loads(sys.argv[1])
files = tuple(PinnedFile(**file) for file in files)
try:
    download(PinnedModel(**model, files=files), files, Path(folder), lambda *_: None)
except ModelError as error:
    sys.exit(f"error: {error}")
"""


def child(
    folder: Path, files: tuple[PinnedFile, ...], environment: dict[str, str]
) -> subprocess.Popen[str]:
    """A download in a fresh process: the hub's library reads the environment when imported."""
    model = {key: value for key, value in asdict(TINY).items() if key != "files"}
    given = json.dumps([model, [asdict(file) for file in files], str(folder)])
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.upper() not in PROXIES and not name.startswith("HF_")
    }
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, given],
        env={**kept, "HF_HOME": str(folder.parent / "hf-home"), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_killed_at_random_it_resumes_and_fetches_hardly_a_byte_twice(tmp_path: Path) -> None:
    content = random.Random(3).randbytes(2_000_000)
    big, folder = pin("big.onnx", content), tmp_path / "folder"
    chance, rest = random.Random(4), part_of(folder, pin("big.onnx", content))
    with Hub(write(tmp_path / "hub", {"big.onnx": content}), REPO, cdn=True) as server:
        server.misbehave("big.onnx", "throttle", 1_000_000)
        for kill in range(4):
            process = child(folder, (big,), {"HF_ENDPOINT": server.url})
            deadline = time.monotonic() + 60
            while len(server.starts("big.onnx")) <= kill and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(chance.uniform(0.05, 0.35))
            process.kill()
            process.communicate()
            last, had = server.log[-1], rest.stat().st_size
            assert names(folder) == [rest.name]
            assert rest.read_bytes() == content[:had]
            assert last.start <= had
            # what the system had taken from the server and the process had not read is lost
            assert last.start + last.sent - had <= 300_000
        process = child(folder, (big,), {"HF_ENDPOINT": server.url})
        output, _ = process.communicate(timeout=60)
        assert (process.returncode, output) == (0, "")
        assert server.starts("big.onnx")[-1] == had
        assert server.log[-1].sent == len(content) - had
    assert names(folder) == ["big.onnx"]
    assert (folder / "big.onnx").read_bytes() == content


# -- every failure its own line --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "code", "expected"),
    [
        ("length", 15, "", r"wrong length: 15 bytes on the hub where 300,000 are pinned; .*--from"),
        ("length", 300_001, "", r"wrong length: 300,001 bytes on the hub"),
        ("html", 0, "", r"a web page arrived instead of the file: a proxy or a login page"),
        ("html_as_file", 0, "", r"a web page arrived instead of the file"),
        ("status", 401, "", r"wants a valid token \(401 Unauthorized\); put one into HF_TOKEN"),
        ("status", 403, "", r"forbidden \(403 Forbidden\): by a proxy, .* or by the hub"),
        ("status", 403, "GatedRepo", r"asks you to accept terms .* HF_TOKEN"),
        ("status", 401, "RepoNotFound", r"^someone/tiny: the hub has no such repository, or it is"),
        ("status", 404, "RepoNotFound", r"^someone/tiny: the hub has no such repository"),
        ("status", 404, "RevisionNotFound", rf"has no revision {COMMIT} .*--from"),
        ("status", 404, "EntryNotFound", rf"{ENCODER} of \S+ the hub has no such file at revision"),
        ("status", 404, "", r"not found at revision .* check HF_ENDPOINT"),
        ("status", 407, "", r"the proxy wants a login"),
        ("status", 418, "", r"the hub answered \(418 I'm a Teapot\); check HF_ENDPOINT"),
        ("status", 503, "", r"busy or in trouble \(503 Service Unavailable\); wait .* again"),
        ("drop", 100_000, "", r"dropped at 100,000 of 300,000 bytes .*goes on where it stopped"),
        ("stall", 70_000, "", r"silent for 1 s, at 70,000 of .* HF_HUB_DOWNLOAD_TIMEOUT=6"),
        ("silent", 0, "", r"silent for 1 s, at 0 of 300,000 bytes"),
        ("changed", 0, "", r"arrived changed: SHA-256 \w{64} where \w{64} is pinned; .*removed"),
    ],
)
def test_each_failure_is_told_with_its_cure(
    tmp_path: Path, hub: Hub, kind: str, value: int, code: str, expected: str
) -> None:
    folder = tmp_path / "folder"
    hub.misbehave(ENCODER, kind, value, code=code)
    assert re.search(expected, said := refused(folder)), said
    assert {"config.json", "vocab.txt"} <= set(names(folder)) and ENCODER not in names(folder)
    hub.behave()
    assert len(download(TINY, TINY.files, folder, ignore)) == len(CONTENT)
    assert names(folder) == sorted(CONTENT)


def test_a_page_or_a_wrong_length_does_not_cost_what_was_received(tmp_path: Path, hub: Hub) -> None:
    folder = tmp_path / "folder"
    write(folder, {part_of(folder).name: CONTENT[ENCODER][:250_000]})
    for kind in ("html", "html_as_file", "length"):
        hub.misbehave(ENCODER, kind, 15, times=1)
        assert "web page" in (said := refused(folder, files=(THE_ENCODER,))) or "wrong" in said
        assert part_of(folder).stat().st_size == 250_000


def test_more_than_was_pinned_without_a_length_is_stopped(tmp_path: Path, hub: Hub) -> None:
    hub.misbehave(ENCODER, "no_length")
    hub.misbehave(ENCODER, "length", 10**9)
    assert "more than 300,000 bytes on the hub" in refused(tmp_path / "folder")
    assert hub.bytes_sent(ENCODER) < 10**8
    hub.behave()
    assert download(TINY, [THE_ENCODER], tmp_path / "folder", ignore)


def test_an_unreachable_hub_is_told_at_once_and_the_starter_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setattr(module, "_PAUSES_S", (60.0,) * 4)
    said = refused(tmp_path / "folder")
    assert "the hub (http://127.0.0.1:9) cannot be reached" in said
    assert said.endswith("`stt transcribe` works with the starter meanwhile")


def test_a_hub_that_goes_away_during_a_file_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "hub", CONTENT)
    with Hub(folder, REPO) as server:
        use(monkeypatch, server.url)
        server.misbehave(ENCODER, "drop", 100_000)
        with monkeypatch.context() as patch:
            # the second try finds nobody; the hub is back before the third
            patch.setattr(module.time, "sleep", lambda _: server.behave())
            download(TINY, [THE_ENCODER], tmp_path / "folder", ignore)
    assert server.starts(ENCODER) == [0, 100_000]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("ALL_PROXY", "nonsense://proxy", "the proxy of the environment cannot be used"),
        ("HTTP_PROXY", "http://127.0.0.1:9", "cannot be reached"),
    ],
)
def test_a_wrong_proxy_is_told(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(name, value)
    assert expected in (said := refused(tmp_path / "folder"))
    assert "HTTPS_PROXY" in said
    assert not hub.log


@pytest.mark.parametrize(
    "endpoint", ["hub.example", "htp://hub.example", "http://hub.example:port"]
)
def test_an_endpoint_that_is_no_address_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    use(monkeypatch, endpoint)
    assert "its address is not one" in (said := refused(tmp_path / "folder"))
    assert "correct HF_ENDPOINT" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told(tmp_path: Path, hub: Hub) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    part_of(folder).symlink_to("/dev/full")
    assert re.search(r"the disk is full in .* make room, .* `models_dir`", refused(folder))


@pytest.mark.parametrize(
    ("error", "expected"),
    [(PermissionError(13, "Permission denied"), "no right"), (OSError(5, "I/O"), "cannot write")],
)
def test_a_folder_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, expected: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(ModelError, match=rf"{expected}.*folder with|{expected}.*models_dir"):
        download(TINY, TINY.files, tmp_path / "folder", ignore)


# -- offline, token, proxy -------------------------------------------------------------------------


def test_offline_says_what_is_missing_and_asks_nobody(tmp_path: Path, hub: Hub) -> None:
    folder = write(tmp_path / "folder", {**CONTENT, "vocab.txt": b"damaged"})
    (folder / ENCODER).unlink()
    with pytest.raises(ModelError, match=f"^offline, and vocab.txt, {ENCODER} of .*--from DIR"):
        download(TINY, TINY.files, folder, ignore, offline=True)
    write(folder, CONTENT)
    assert len(download(TINY, TINY.files, folder, ignore, offline=True)) == len(CONTENT)
    assert not hub.log


def test_offline_mode_of_the_environment_counts(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert refused(tmp_path / "folder").startswith("offline, and config.json, vocab.txt, ")
    with pytest.raises(ModelError, match=r"^offline, and someone/tiny is not in the catalogue"):
        resolve(REPO, None, name="tiny")
    assert not hub.log


def test_a_token_is_sent_to_the_hub_and_to_nobody_else(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.private, hub.cdn = "hf_secret", True
    assert "no such repository, or it is private" in refused(tmp_path / "folder")
    hub.log.clear()
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    download(TINY, TINY.files, tmp_path / "folder", ignore)
    at_hub = [entry for entry in hub.log if "/cdn/" not in entry.path]
    at_cdn = [entry for entry in hub.log if "/cdn/" in entry.path]
    assert {entry.token for entry in at_hub} == {"Bearer hf_secret"}
    assert {entry.token for entry in at_cdn} == {None}


def test_the_environment_of_a_fresh_process_is_followed(tmp_path: Path) -> None:
    """Endpoint, proxy and token; nothing is printed and nothing said about this machine."""
    with Hub(write(tmp_path / "hub", CONTENT), REPO) as server:
        process = child(
            tmp_path / "folder",
            TINY.files,
            {"HF_ENDPOINT": "http://hub.invalid", "HTTP_PROXY": server.url, "HF_TOKEN": "hf_abc"},
        )
        assert process.communicate(timeout=60) == ("", None)
    assert len(server.log) == len(CONTENT)
    for entry in server.log:
        assert entry.proxied and entry.host == "hub.invalid" and entry.token == "Bearer hf_abc"
        assert "agent/" not in entry.agent and "torch" not in entry.agent


def test_an_unreachable_hub_takes_a_fresh_process_no_time(tmp_path: Path) -> None:
    began = time.monotonic()
    process = child(tmp_path / "folder", TINY.files, {"HF_ENDPOINT": "http://127.0.0.1:9"})
    output, _ = process.communicate(timeout=60)
    assert ONE_LINE.fullmatch(output.strip()) and "cannot be reached" in output
    assert time.monotonic() - began < 15  # most of it imports; the library's retries took 24


# -- from a folder ---------------------------------------------------------------------------------


def test_a_folder_is_imported_with_the_same_checks(tmp_path: Path) -> None:
    source = write(tmp_path / "stick", {**CONTENT, "README.md": b"more"})
    reports, folder = Reports(), tmp_path / "folder"
    hashes = import_folder(TINY, TINY.files, source, folder, reports)
    assert hashes == {file.name: file.sha256 for file in TINY.files}
    assert names(folder) == sorted(CONTENT)
    assert (300_000, 300_000) in reports.of(f"copying {ENCODER}")


def test_an_import_takes_what_is_missing_or_wrong(tmp_path: Path) -> None:
    source = write(tmp_path / "stick", CONTENT)
    folder = write(tmp_path / "folder", {**CONTENT, ENCODER: bytes(300_000)})
    write(folder, {part_of(folder).name: b"of a download", f".{ENCODER}.copy.part": b"killed"})
    reports = Reports()
    import_folder(TINY, TINY.files, source, folder, reports)
    assert {stage for stage, *_ in reports if stage.startswith("copying")} == {f"copying {ENCODER}"}
    assert names(folder) == sorted(CONTENT)
    assert (folder / ENCODER).read_bytes() == CONTENT[ENCODER]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (b"short", r"encoder-model.onnx: 5 bytes where 300,000 are pinned; .* copy it there again"),
        (bytes(300_000), r"encoder-model.onnx: SHA-256 \w{64} where \w{64} is pinned"),
        (None, rf"{ENCODER} missing; copy the files of someone/tiny at revision {COMMIT} there"),
    ],
)
def test_a_wrong_file_is_not_imported(tmp_path: Path, damage: bytes | None, expected: str) -> None:
    source, folder = write(tmp_path / "stick", CONTENT), tmp_path / "folder"
    (source / ENCODER).unlink() if damage is None else (source / ENCODER).write_bytes(damage)
    with pytest.raises(ModelError, match=expected) as caught:
        import_folder(TINY, TINY.files, source, folder, ignore)
    assert ONE_LINE.fullmatch(str(caught.value))
    assert not folder.exists() or set(names(folder)) <= set(CONTENT) - {ENCODER}


def test_a_folder_to_import_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder; `--from` takes a folder with the files"):
        import_folder(None, TINY.files, tmp_path / "none", tmp_path / "folder", ignore)


def test_an_unpinned_folder_is_copied_whole_even_over_files_of_the_same_size(
    tmp_path: Path,
) -> None:
    source = write(tmp_path / "stick", {"model.onnx": b"mine!"})
    folder = write(tmp_path / "folder", {"model.onnx": b"older"})
    hashes = import_folder(None, [PinnedFile("model.onnx", 5, None)], source, folder, ignore)
    assert (folder / "model.onnx").read_bytes() == b"mine!"
    assert hashes == {"model.onnx": hashlib.sha256(b"mine!").hexdigest()}
    with pytest.raises(ModelError, match="5 bytes where 6 are pinned"):
        import_folder(None, [PinnedFile("model.onnx", 6, None)], source, folder, ignore)


def test_an_unreadable_source_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Iterator[bytes]:
        raise OSError(5, "Input/output error")
        yield

    source = write(tmp_path / "stick", CONTENT)
    monkeypatch.setattr(download_module, "blocks", fail)
    with pytest.raises(ModelError, match=r"stick/config.json: cannot be read \(Input/output"):
        import_folder(TINY, TINY.files, source, tmp_path / "folder", ignore)
    assert names(tmp_path / "folder") == []


# -- any model of the hub --------------------------------------------------------------------------


def test_a_model_of_the_hub_is_pinned_to_its_commit(tmp_path: Path, hub: Hub) -> None:
    write(hub.folder, {"encoder-model.int8.onnx": b"8", "README.md": b"#", ".gitattributes": b""})
    model = resolve(REPO, None, name="mine")
    assert (model.name, model.repo_id, model.revision) == ("mine", REPO, COMMIT)
    assert model.licence == "cc-by-4.0"
    assert {file.name for file in model.files} == set(CONTENT)
    by_name = {file.name: file for file in model.files}
    assert by_name[ENCODER] == THE_ENCODER
    assert by_name["vocab.txt"].sha256 is None and by_name["vocab.txt"].git_blob
    assert download(model, model.files, tmp_path / "folder", ignore)["vocab.txt"]


def test_parakeet_ultra_keeps_its_graphs_in_a_folder_for_each_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo_id = KNOWN["parakeet-ultra"].repo_id
    assert repo_id is not None
    graphs = {f"fp32/{name}": data for name, data in CONTENT.items() if ".onnx" in name}
    others = {name: data for name, data in CONTENT.items() if ".onnx" not in name}
    shards = {f"fp32/{ENCODER.removesuffix('.data')}.data.00{n}": bytes([n]) * 9 for n in (0, 1)}
    write(tmp_path / "hub", graphs | others | shards | {"int8/encoder-model.int8.onnx": b"8"})
    with Hub(tmp_path / "hub", repo_id) as server:
        use(monkeypatch, server.url)
        source = find_source("parakeet-ultra", None, Places.only(tmp_path / "models"))
        assert source.name == "parakeet-ultra"
        assert source.pinned is not None
        assert source.pinned.revision == COMMIT
        assert {file.path_in_repo for file in source.files} == {*graphs, *others, *shards}
        download(source.pinned, source.files, tmp_path / "folder", ignore)
    assert names(tmp_path / "folder") == sorted([*CONTENT, *(Path(name).name for name in shards)])
    manifest = Manifest(source=source.origin, revision=COMMIT, licence=source.pinned.licence)
    write(tmp_path / "models" / "parakeet-ultra", {"config.json": CONTENT["config.json"]})
    manifest.save(tmp_path / "models" / "parakeet-ultra")
    (item,) = (i for i in inventory(Places.only(tmp_path / "models")) if i.folder)
    assert (item.languages, item.licence) == ("25 European", "cc-by-4.0")


def test_git_sums_prove_small_files_too(tmp_path: Path, hub: Hub) -> None:
    model = resolve(REPO, "main", name="mine")
    hub.misbehave("vocab.txt", "changed")
    with pytest.raises(ModelError, match=r"vocab.txt .* arrived changed: git's SHA-1 \w{40} where"):
        download(model, model.files, tmp_path / "folder", ignore)


def test_a_model_in_a_folder_of_a_repository(tmp_path: Path, hub: Hub) -> None:
    inside = {f"parts/ultra/{name}": data + b" " for name, data in CONTENT.items()}
    inside["parts/ultra/config.json"] = CONTENT["config.json"]
    write(hub.folder, inside)
    model = resolve(f"{REPO}/parts/ultra", None, name="ultra")
    assert model.repo_id == REPO
    assert {file.path for file in model.files} == set(inside)
    download(model, model.files, tmp_path / "folder", ignore)
    assert names(tmp_path / "folder") == sorted(CONTENT)
    assert (tmp_path / "folder" / "vocab.txt").read_bytes() == b"<blk> 0\n "
    import_folder(model, model.files, hub.folder / "parts" / "ultra", tmp_path / "copy", ignore)
    write(hub.folder, {"config.json": b"{}"})


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("nemo-conformer-rnnt", {"encoder-model.onnx", "decoder_joint-model.onnx"}),
        ("nemo-conformer-ctc", {"model.onnx", "model.onnx_data"}),
    ],
)
def test_each_kind_has_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, wanted: set[str]
) -> None:
    config = {"config.json": json.dumps({"model_type": kind}).encode(), "vocab.txt": b"a 0\n"}
    files = dict.fromkeys([*wanted, "model.int8.onnx", "other.onnx"], b"graph")
    with Hub(write(tmp_path / "hub", {**config, **files}), REPO) as server:
        use(monkeypatch, server.url)
        model = resolve(REPO, None, name="mine")
    assert {file.name for file in model.files} == {*config, *wanted}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"config.json": b'{"model_type": "whisper"}'}, "model_type 'whisper' in its config.json"),
        ({"config.json": b"<xml>"}, "its config.json is not JSON"),
        ({"config.json": b"[]"}, "model_type None"),
        ({"config.json": CONTENT["config.json"]}, "has no vocab.txt, encoder-model.onnx, decoder"),
        ({"a/config.json": b"{}"}, "has no config.json, .*; models in folders of it: a; choose"),
    ],
)
def test_a_repository_that_holds_no_such_model_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: dict[str, bytes], expected: str
) -> None:
    with Hub(write(tmp_path / "hub", content), REPO) as server:
        use(monkeypatch, server.url)
        with pytest.raises(ModelError, match=expected) as caught:
            resolve(REPO, None, name="mine")
    assert ONE_LINE.fullmatch(str(caught.value))


@pytest.mark.parametrize(
    ("kind", "value", "code", "expected"),
    [
        ("html", 0, "", "^someone/tiny: what answered is not the hub"),
        ("status", 403, "GatedRepo", "^someone/tiny: its owner asks you to accept terms"),
        ("status", 401, "", "^someone/tiny: the hub wants a valid token"),
        ("status", 404, "RepoNotFound", "^someone/tiny: the hub has no such repository"),
        ("status", 503, "", "^someone/tiny: the hub is busy or in trouble"),
    ],
)
def test_a_description_that_cannot_be_had_is_told(
    hub: Hub, kind: str, value: int, code: str, expected: str
) -> None:
    hub.misbehave(API, kind, value, code=code)
    with pytest.raises(ModelError, match=expected) as caught:
        resolve(REPO, None, name="mine")
    assert ONE_LINE.fullmatch(str(caught.value))


def test_a_revision_or_hub_that_is_not_there_is_told(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=r"^someone/tiny: the hub has no revision v9"):
        resolve(REPO, "v9", name="mine")
    use(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="cannot be reached"):
        resolve(REPO, None, name="mine")


@pytest.mark.parametrize(
    "name", ["parakeet", "a/b c", "/a/b", "a//b", "a/../b", "a/b--c", "a/b/.."]
)
def test_what_is_no_name_of_a_repository_is_wrong_usage(hub: Hub, name: str) -> None:
    with pytest.raises(UsageError, match="is not a"):
        resolve(name, None, name="mine")
    assert not hub.log


def test_a_file_of_another_revision_has_its_own_part(tmp_path: Path, hub: Hub) -> None:
    hub.any_revision = True
    unsummed = replace(THE_ENCODER, sha256=None)
    folder = write(tmp_path / "folder", {f".{ENCODER}.{'0' * 12}.part": bytes(1000)})
    download(TINY, [unsummed], folder, ignore)
    assert hub.starts(ENCODER) == [0]
    assert names(folder) == [ENCODER]
