"""The same batch on a Ray cluster of several nodes of this machine, one of them killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from support.paths import DIGITS

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
pytest.importorskip("ray", reason="Ray is not installed")

from ray.cluster_utils import Cluster

from stt.batch import ray_engine as cluster_engine
from stt.batch import ray_pool as cluster_module
from stt.cli import main
from support.timeless import content

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own, of files it leaves open
]
CLIPS = sorted((DIGITS / "clips").glob("*.flac"))
COUNT = 14


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of some 20 utterances each, no two the same."""
    folder = tmp_path_factory.mktemp("recordings")
    random = np.random.default_rng(7)
    clips = [soundfile.read(path, dtype="int16")[0] for path in CLIPS]
    for number in range(COUNT):
        order = random.permutation(np.repeat(np.arange(len(clips)), 3))
        parts = [part for i in order for part in (clips[i], np.zeros(48_000, np.int16))]
        soundfile.write(folder / f"{number:02}.flac", np.concatenate(parts), 16_000)
    return folder


@pytest.fixture(scope="module")
def undisturbed(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed")
    assert run(recordings, out) == 0
    return results(out)


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head that computes nothing; nodes are added by the test."""
    try:
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    except (OSError, RuntimeError) as error:
        pytest.skip(f"Ray does not start here ({error})")
    yield made
    made.shutdown()


def arguments(recordings: Path, out: Path) -> list[str]:
    formats = ("-f", "txt", "-f", "json")
    return [str(part) for part in ("transcribe", recordings, "-o", out, "-m", DIGITS, *formats)]


def run(recordings: Path, out: Path, *more: str) -> int:
    return main([*arguments(recordings, out), *more])


def results(out: Path) -> dict[str, bytes]:
    return {path.name: content(path) for path in out.iterdir() if path.is_file()}


@pytest.mark.e2e
def test_nodes_are_killed_and_join_and_nothing_is_lost(
    cluster: Any,
    recordings: Path,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    command = [sys.executable, "-m", "stt", *arguments(recordings, tmp_path / "out")]
    running = subprocess.Popen([*command, "--ray", cluster.address], stderr=subprocess.PIPE)
    assert running.stderr is not None

    def done() -> int:
        return len(list(tmp_path.glob("out/*.txt")))

    for node, after in zip(nodes, (3, 6), strict=True):  # in the end only the one that joins is
        while done() < after and running.poll() is None:
            time.sleep(0.02)
        cluster.remove_node(node, allow_graceful=False)
        if done() == COUNT:
            running.communicate()
            pytest.skip("this machine is too quick: all was done before the node was killed")
        if after == 3:
            cluster.add_node(num_cpus=1)
    err = running.communicate()[1].decode()
    assert running.returncode == 0, err
    assert err.count("lost the engine on") == 2
    assert results(tmp_path / "out") == undisturbed
    assert f"{COUNT} done, 0 failed" in err
    assert run(recordings, tmp_path / "out") == 0  # the journal is the same one
    assert f"0 done, {COUNT} done before, 0 failed" in capsys.readouterr().err


def test_recordings_that_a_node_does_not_see_are_sent(
    cluster: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster.add_node(num_cpus=1)
    (tmp_path / "in").mkdir()
    shutil.copy(CLIPS[0], tmp_path / "in" / "a.flac")
    (tmp_path / "in" / "b.flac").write_bytes(b"fLaC no more")
    assert run(tmp_path / "in", tmp_path / "here") == 1

    class Blind(cluster_engine.Engine):
        """Sees no file but what it is sent."""

        def transcribe(self, source: str, size: int, *more: Any) -> Any:
            yield from super().transcribe(source, size if more[0] is not None else -1, *more)

    monkeypatch.setattr(cluster_module, "Engine", Blind)
    assert run(tmp_path / "in", tmp_path / "out", "--ray", cluster.address) == 1
    assert results(tmp_path / "out") == results(tmp_path / "here")
    assert f"{tmp_path / 'in' / 'b.flac'}: not a recording" in capsys.readouterr().err


def test_an_engine_that_fails_over_one_recording_goes_on_with_the_others(
    cluster: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster.add_node(num_cpus=1)
    (tmp_path / "in").mkdir()
    for number, name in enumerate("ab"):
        shutil.copy(CLIPS[number], tmp_path / "in" / f"{name}.flac")

    class Full(cluster_engine.Engine):
        """Has no room for one of them."""

        def transcribe(self, source: str, *more: Any) -> Any:
            if source.endswith("a.flac"):
                raise OSError(28, "No space left on device")
            yield from super().transcribe(source, *more)

    monkeypatch.setattr(cluster_module, "Engine", Full)
    assert run(tmp_path / "in", tmp_path / "out", "--ray", cluster.address) == 1
    err = capsys.readouterr().err
    assert "a.flac: an engine failed on " in err
    assert "No space left on device" in err
    assert "lost the engine" not in err
    assert "1 done, 1 failed" in err


def test_what_cannot_be_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(CLIPS[0], tmp_path / "a.flac")
    assert main(["transcribe", str(tmp_path), "--ray"]) == 2
    assert "--ray goes with a folder of results: add -o DIR" in capsys.readouterr().err
    assert main(["transcribe", "-", "-o", str(tmp_path / "out"), "--ray"]) == 2
    assert "- does not go with --ray" in capsys.readouterr().err
    assert run(tmp_path, tmp_path / "out", "--ray", "127.0.0.1:1") == 2
    assert "no cluster answers at 127.0.0.1:1" in capsys.readouterr().err
