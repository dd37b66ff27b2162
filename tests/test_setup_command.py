"""`stt setup` as a user runs it: from a hub on loopback to a transcript."""

from __future__ import annotations

import json
import os
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest

from stt.cli import main
from stt.install.observation import bundled_clips
from support.hub import Hub, use
from support.paths import DIGITS, ROOT

REPO = "someone/digits"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    shutil.copytree(DIGITS, tmp_path / "hub", ignore=shutil.ignore_patterns("clips", "README.md"))
    with Hub(tmp_path / "hub", REPO) as server:
        yield server


def environment(hub: Hub | None) -> dict[str, str]:
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("STT_", "HF_")) and key not in PROXIES
    }
    return kept | {"PYTHONUTF8": "1", **({"HF_ENDPOINT": hub.url} if hub else {})}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "stt", *arguments]


def configured(here: Path) -> Path:
    """A folder to work in, with a folder of models of its own."""
    here.mkdir(exist_ok=True)
    (here / "stt_config.json").write_text('{"models_dir": "models"}')
    return here


def stt(
    here: Path, hub: Hub | None, *arguments: str, timeout: float = 250
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=configured(here),
        env=environment(hub),
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


Ran = tuple[int, str, str]
"""Exit code, stdout, stderr."""


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    """Run `stt` in this process, in a folder of its own."""
    here = configured(tmp_path / "here")

    def call(*arguments: str) -> Ran:
        monkeypatch.chdir(here)
        for name in [name for name in os.environ if name not in environment(None)]:
            monkeypatch.delenv(name)
        code = main(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def run_script(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    """Run one of `scripts/` in this process."""

    def call(name: str, *arguments: str) -> Ran:
        path = ROOT / "scripts" / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(path), *arguments])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(path), run_name="__main__")
        captured = capsys.readouterr()
        return int(left.value.code or 0), captured.out, captured.err

    return call


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_a_hub_to_a_transcript(tmp_path: Path, hub: Hub) -> None:
    here = tmp_path / "here"
    done = stt(here, hub, "setup", REPO)
    assert done.returncode == 0, done.stderr
    assert "auto takes fp32 on cpu: fp16 passed over: " in done.stdout
    assert "fp16" in done.stdout
    for word in ("fetch: done", "fp16: done", "decoder in parts: done", "measure: done", "clipped"):
        assert word in done.stderr
    clip = DIGITS / "clips" / "four-digits.flac"
    expected = next(c.text for c in bundled_clips(clip.parent) if c.name == clip.name)
    said = stt(here, None, "transcribe", "-m", "digits", str(clip))
    assert said.stdout.strip() == expected
    first, last = done.stdout.splitlines()[-2:]
    assert first.startswith("`stt transcribe -m digits FILE` takes this model")
    assert last == "stt config set model digits"
    assert stt(here, None, *last.split()[1:]).returncode == 0
    plain = subprocess.run(
        command("transcribe", str(clip)),
        cwd=here,
        env=environment(None),
        capture_output=True,
        text=True,
        check=False,
    )
    assert plain.stdout.strip() == expected
    checked = stt(here, None, "setup", "digits", "--check")
    assert (checked.returncode, checked.stderr.count("Traceback")) == (0, 0)
    assert re.search(r"running every proof again: about \d+ s", checked.stderr)
    quick = stt(here, None, "setup", "digits", "--check", "--quick")
    assert quick.returncode == 0
    assert re.search(r"as it was installed; fp\d\d on cpu heard: \w", quick.stdout)

    content = bytearray((here / "models/digits/vocab.txt").read_bytes())
    content[0] ^= 1
    (here / "models/digits/vocab.txt").write_bytes(content)
    checked = stt(here, None, "setup", "digits", "--check")
    assert checked.returncode == 1
    assert "`stt setup digits` repairs" in checked.stderr
    assert "vocab.txt is damaged" in checked.stderr
    sent = hub.bytes_sent("encoder-model.onnx.data")
    repaired = stt(here, hub, "setup", "digits")
    assert repaired.returncode == 0, repaired.stderr
    assert hub.bytes_sent("encoder-model.onnx.data") == sent
    assert stt(here, None, "setup", "digits", "--check").returncode == 0


@pytest.mark.e2e
def test_an_unreachable_hub_is_one_line_and_quick(tmp_path: Path) -> None:
    began = time.monotonic()
    with Hub(tmp_path, REPO) as gone:
        pass
    done = stt(tmp_path / "here", gone, "setup")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "cannot be reached" in last
    assert "the starter meanwhile" in last
    assert not list((tmp_path / "here/models").iterdir()), "nothing came, nothing is left"
    assert time.monotonic() - began < 20


def test_offline_names_what_is_missing(run: Callable[..., Ran]) -> None:
    code, _, err = run("setup", "--offline")
    assert code == 1
    assert "offline, and" in err
    assert "--from DIR" in err


def test_a_page_instead_of_a_model(
    run: Callable[..., Ran], tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, hub.url)
    hub.misbehave("encoder-model.onnx.data", "html")
    code, _, err = run("setup", REPO)
    assert code == 1
    assert "a web page arrived instead of the file" in err
    assert not (tmp_path / "here/models/digits").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["setup", "nothing"], "no model named nothing"),
        (["setup", "--precision", "fp8", str(DIGITS)], "precision 'fp8' is not made"),
        (["setup", "--precision", "", str(DIGITS)], "--precision is empty"),
        (["setup", "--rtol", "nan", str(DIGITS)], "--rtol must be a number above 0"),
        (
            ["setup", "starter", "--precision", "mixed"],
            "mixed is not made of the starter",
        ),
        (["setup", "starter", "--no-keep-fp32"], "--keep-fp32 does not go with starter"),
        (["setup", "foo/bar", "--offline"], "offline, and foo/bar is not in the catalogue"),
        (["setup", "parakeet-v2", "--check"], "run `stt setup parakeet-v2`"),
        (["setup", "--check"], "no installed model"),
        (["setup", "--check", "--quick"], "no installed model"),
        (["setup", "--quick"], "--quick goes with --check"),
    ],
)
def test_wrong_usage_is_one_line(
    run: Callable[..., Ran], arguments: list[str], expected: str
) -> None:
    code, _, err = run(*arguments)
    assert code in (1, 2)
    assert expected in err
    assert "Traceback" not in err


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_killed_while_downloading_it_goes_on(tmp_path: Path, hub: Hub) -> None:
    """Killed at random moments, with a slow hub: nothing is fetched twice, the end is right."""
    here = configured(tmp_path / "here")
    chance = random.Random(1)
    hub.misbehave("encoder-model.onnx.data", "throttle", 1_500_000)
    for _ in range(4):
        process = subprocess.Popen(
            command("setup", REPO, "-q"), cwd=here, env=environment(hub), stderr=subprocess.PIPE
        )
        time.sleep(chance.uniform(0.9, 1.8))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    hub.behave()
    done = stt(here, hub, "setup", REPO)
    assert done.returncode == 0, done.stderr
    size = (DIGITS / "encoder-model.onnx.data").stat().st_size
    # what was on its way when the process died may be sent again: at most the sockets' buffers
    assert hub.bytes_sent("encoder-model.onnx.data") < size * 2
    assert stt(here, None, "setup", "digits", "--check").returncode == 0


@pytest.mark.e2e
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_says_how_to_go_on(tmp_path: Path, hub: Hub) -> None:
    here = configured(tmp_path / "here")
    hub.misbehave("encoder-model.onnx.data", "throttle", 200_000)
    process = subprocess.Popen(
        command("setup", REPO),
        cwd=here,
        env=environment(hub),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    next(line for line in process.stderr if "encoder-model.onnx.data" in line)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "run the same command again" in err
    assert "is installed" not in err
    assert "Traceback" not in err


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_it_transcribes_while_set_up_goes_on_and_after_ctrl_c(tmp_path: Path) -> None:
    here = configured(tmp_path / "here")
    shutil.copytree(DIGITS, tmp_path / "digits", ignore=shutil.ignore_patterns("clips"))
    process = subprocess.Popen(
        command("setup", str(tmp_path / "digits"), "--precision", "fp16,int8"),
        cwd=here,
        env=environment(None),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    until = next(line for line in process.stderr if "runs from now on, in FP32" in line)
    clip = DIGITS / "clips" / "four-digits.flac"
    said = stt(here, None, "transcribe", "-m", "digits", str(clip))
    assert process.poll() is None, "set-up was over before"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "`stt transcribe -m digits FILE`" in until
    expected = next(c.text for c in bundled_clips(clip.parent) if c.name == clip.name)
    assert said.stdout.strip() == expected
    assert "precision fp32" in said.stderr
    assert process.returncode == 130
    assert "the model is installed and runs in FP32; run the same command again" in err


@pytest.mark.parametrize("script", ["setup_models", "convert_to_fp16", "fix_fp16_casts"])
def test_scripts_have_help(run_script: Callable[..., Ran], script: str) -> None:
    code, out, _ = run_script(script, "--help")
    assert code == 0
    assert "--precision" in out or "--input-dir" in out


def test_fixing_what_set_up_had_proven_forgets_the_proof(
    tmp_path: Path, run_script: Callable[..., Ran]
) -> None:
    """Forms of it refer into its file, and would read other weights."""
    folder = tmp_path / "digits"
    shutil.copytree(DIGITS, folder, ignore=shutil.ignore_patterns("clips", "README.md"))
    assert run_script("convert_to_fp16", "--input-dir", str(folder))[0] == 0
    proven = {"fp16": {"proven": True}, "fp32": {"proven": True}}
    told = {"precisions": proven, "splits": dict(proven), "cuda": dict(proven)}
    (folder / "manifest.json").write_text(json.dumps(told))
    assert run_script("fix_fp16_casts", "--input-dir", str(folder))[0] == 0
    assert json.loads((folder / "manifest.json").read_text()) == told  # nothing was changed
    path = folder / "encoder-model.fp16.onnx"
    model = onnx.load(path, load_external_data=False)
    cast = next(node for node in model.graph.node if node.op_type == "Cast")
    (to,) = (a for a in cast.attribute if a.name == "to")
    to.i = {1: 10, 10: 1}.get(to.i, 1)
    path.write_bytes(model.SerializeToString())
    code, out, _ = run_script("fix_fp16_casts", "--input-dir", str(folder))
    assert code == 0
    assert "what was proven of fp16 is forgotten: run `stt setup`" in out
    left = json.loads((folder / "manifest.json").read_text())
    assert [list(left[section]) for section in told] == [["fp32"]] * 3


def test_converting_and_fixing_as_two_steps_twice_in_a_row(
    tmp_path: Path, run: Callable[..., Ran], run_script: Callable[..., Ran]
) -> None:
    folder = tmp_path / "digits"
    shutil.copytree(DIGITS, folder, ignore=shutil.ignore_patterns("clips", "README.md"))
    seen = []
    for script in ("convert_to_fp16", "fix_fp16_casts") * 2:
        code, out, err = run_script(script, "-v", "--input-dir", str(folder))
        assert code == 0, err
        seen.append((folder / "encoder-model.fp16.onnx").read_bytes())
        if script == "fix_fp16_casts":
            assert "0 nodes with two types, 0 changes" in out
    assert len(set(seen)) == 1
    clip = DIGITS / "clips" / "four-digits.flac"
    code, _, err = run("transcribe", "-p", "fp16", "-m", str(folder), str(clip))
    assert code == 0
    assert "not proven here" in err
