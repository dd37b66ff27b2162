"""Set-up of the full-size stand-in from a hub on loopback, killed twenty times on the way.

Needs ../shared/models (Parakeet's graphs) and 10 GB of disk; takes about ten minutes: `make slow`.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stt.models import inspect
from support.hub import Hub
from support.paths import ROOT, SHARED
from test_setup_command import command, environment, stt

MAKE = SHARED / "models" / "make_facsimile.py"
REPO = "someone/standin"
WEIGHTS = "encoder-model.onnx.data"
BUFFERED = 24 << 20
"""Bytes that may be on their way, or not yet written, when the process dies."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.e2e,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not MAKE.exists(), reason="../shared/models is not here"),
    pytest.mark.skipif(sys.platform == "win32", reason="kills by signal"),
]


def test_killed_twenty_times_it_ends_right_and_fetches_nothing_twice(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(MAKE), str(tmp_path / "hub")], check=True)
    here = tmp_path / "here"
    here.mkdir()
    (here / "stt_config.json").write_text('{"models_dir": "models"}')
    chance = random.Random(20)
    kills = []
    with Hub(tmp_path / "hub", REPO) as hub:
        for number in range(20):
            if number == 0:  # the first ten die downloading, at about 60 MB/s
                hub.misbehave(WEIGHTS, "throttle", 60_000_000)
            if number == 10:
                hub.behave()
            process = subprocess.Popen(
                command("setup", REPO), cwd=here, env=environment(hub), stderr=subprocess.PIPE
            )
            time.sleep(chance.uniform(2, 6) if number < 10 else chance.uniform(8, 30))
            process.kill()
            err = process.communicate()[1].decode()
            kills.append(err.strip().splitlines()[-1:])
            folder = here / "models" / "standin"
            if folder.exists():  # it has its name when FP32 is whole, and runs from then on
                model = inspect(folder)
                assert model.problems["fp32"] is None
                assert all(proof.proven for proof in model.proofs.values())
        began = time.monotonic()
        done = stt(here, hub, "setup", REPO, timeout=2400)
        print(f"\nlast run {time.monotonic() - began:.0f} s; killed at {kills}")  # noqa: T201
        print(done.stderr, done.stdout)  # noqa: T201
        assert done.returncode == 0, done.stderr
        size = (tmp_path / "hub" / WEIGHTS).stat().st_size
        assert hub.bytes_sent(WEIGHTS) < size + 10 * BUFFERED
    folder = here / "models" / "standin"
    assert re.search(r"auto takes (fp16|fp32)", done.stdout)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    assert {path.name for path in (here / "models").iterdir()} == {"standin"}
    for name in (WEIGHTS, "encoder-model.onnx", "decoder_joint-model.onnx"):
        assert (folder / name).read_bytes() == (tmp_path / "hub" / name).read_bytes()
    sample = ROOT / "samples" / "train.flac"
    said = stt(here, None, "transcribe", "-m", "standin", str(sample))
    assert said.returncode == 0, said.stderr
    assert said.stdout.strip()
    shutil.rmtree(tmp_path / "hub")
