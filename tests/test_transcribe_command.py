"""The installed command end to end: real audio, real models, exit codes, what lands where."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stt.transcript import FORMAT_NAMES
from support import tiny_tdt
from support.command import SAID, Run
from support.paths import CLIPS, DIGITS, ROOT

SAMPLES = ROOT / "samples"


@pytest.fixture
def run(stt_run: Run) -> Run:
    return stt_run


def test_one_input_prints_its_text_and_nothing_else_on_stdout(run: Run) -> None:
    name, text = next(iter(SAID.items()))
    code, out, err = run("transcribe", "-m", DIGITS, CLIPS / name)
    assert code == 0
    assert out == f"{text}\n"
    assert "precision fp32, provider cpu (fp16 passed over: no fp16 files)" in err
    assert "x real time" in err


def test_quiet_leaves_stderr_empty(run: Run) -> None:
    code, out, err = run("transcribe", "-q", "-m", DIGITS, CLIPS / next(iter(SAID)))
    assert (code, err) == (0, "")
    assert out.strip()


def test_several_inputs_are_headed_by_their_names(run: Run) -> None:
    first, second = list(SAID)[:2]
    code, out, err = run("transcribe", "-m", DIGITS, CLIPS / first, CLIPS / second)
    assert code == 0
    assert re.findall(r"^==> .*/(.*) <==$", out, re.MULTILINE) == [first, second]
    assert "2 done, 0 failed" in err


def test_every_format_is_written_whole(run: Run, tmp_path: Path) -> None:
    name, text = next(iter(SAID.items()))
    formats = FORMAT_NAMES
    flags = [part for f in formats for part in ("-f", f)]
    code, out, _ = run("transcribe", "-m", DIGITS, "-o", tmp_path, *flags, CLIPS / name)
    assert (code, out) == (0, "")
    stem = Path(name).stem
    assert {p.name for p in tmp_path.iterdir()} == {".stt", *(f"{stem}.{f}" for f in formats)}
    assert (tmp_path / f"{stem}.txt").read_text().strip() == text
    result = json.loads((tmp_path / f"{stem}.json").read_text())
    duration = soundfile.info(CLIPS / name).duration
    assert result["duration"] == pytest.approx(duration, abs=0.01)
    words = [word for segment in result["segments"] for word in segment["words"]]
    assert [word["text"] for word in words] == text.split()
    assert all(0 <= w["start"] <= w["end"] <= duration + 0.01 for w in words)
    assert all(0 < w["confidence"] <= 1 for w in words)


@pytest.mark.parametrize("seconds", [0.05, 1.0, 40.0])
@pytest.mark.parametrize("level", [0.0, 1e-3, 0.1])
def test_silence_and_noise_give_an_empty_transcript(
    run: Run, tmp_path: Path, seconds: float, level: float
) -> None:
    rng = np.random.default_rng(1)
    path = tmp_path / "noise.wav"
    soundfile.write(path, level * rng.standard_normal(int(16_000 * seconds)), 16_000)
    code, out, err = run("transcribe", "-m", DIGITS, path)
    assert (code, out.strip()) == (0, "")
    assert "no speech found" in err


def test_joined_clips_come_through_whole_once_each(run: Run, tmp_path: Path) -> None:
    """Longer than one utterance may be: words at the cuts are neither lost nor doubled."""
    clean = [name for name in SAID if not re.search("noise|telephone|cut", name)] * 5
    rng = np.random.default_rng(1)
    parts, expected = [], []
    for name in clean:
        samples, rate = soundfile.read(CLIPS / name, dtype="float32")
        pause = 1e-4 * rng.standard_normal(int(rate * rng.uniform(0.5, 1.5)))
        parts += [samples, pause.astype(np.float32)]
        expected += SAID[name].split()
    path = tmp_path / "joined.wav"
    soundfile.write(path, np.concatenate(parts), 16_000)
    assert soundfile.info(path).duration > 60
    code, out, _ = run("transcribe", "-q", "-m", DIGITS, path)
    assert code == 0
    wrong = _edits(expected, out.split())
    assert wrong <= len(expected) // 50, (wrong, len(expected), out)


def _edits(one: list[str], other: list[str]) -> int:
    import jiwer

    measured = jiwer.process_words(" ".join(one), " ".join(other))
    return measured.substitutions + measured.deletions + measured.insertions


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["transcribe"], "Missing argument"),
        (["transcribe", "-f", "doc", "x.wav"], "'doc' is not one of"),
        (["transcribe", "-f", "txt", "-f", "srt", str(SAMPLES)], "add -o DIR"),
        (["transcribe", "-f", "json", str(SAMPLES)], "add -o DIR"),
        (["transcribe", "-p", "fp16", "--strict", "-m", str(DIGITS), str(CLIPS)], "no fp16 files"),
        (["transcribe", "--provider", "cuda", "-m", str(DIGITS), str(CLIPS)], "provider cuda"),
        (["transscribe"], "No such command"),
        (["transcribe", ""], "an empty name"),
        (["config", "set", "threads", "-1"], "from 0 to 1024"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    run: Run, arguments: list[str], message: str
) -> None:
    code, out, err = run(*arguments)
    assert code == (1 if {"--strict", ""} & set(arguments) else 2)
    assert out == ""
    assert message in err
    assert err.startswith("stt: ")
    assert len(err.splitlines()) == 1


def test_fp16_by_name_falls_back_and_says_so(run: Run) -> None:
    code, out, err = run("transcribe", "-p", "fp16", "-m", DIGITS, CLIPS / next(iter(SAID)))
    assert code == 0
    assert out.strip()
    assert "precision fp32" in err
    assert "warning: precision fp16 was asked for, fp32 runs" in err
    assert "fp16 was asked for, but: no fp16 files" in err


def test_a_pair_that_does_not_load_never_ends_the_run(run: Run, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for path in DIGITS.iterdir():
        if path.is_file():
            (model / path.name).write_bytes(path.read_bytes())
    (model / "encoder-model.fp16.onnx").write_bytes(b"<!DOCTYPE html>")
    (model / "decoder_joint-model.fp16.onnx").write_bytes(b"<!DOCTYPE html>")
    proof = {"precisions": {"fp16": {"proven": True, "why": ""}}}
    (model / "manifest.json").write_text(json.dumps(proof))
    clip = CLIPS / next(iter(SAID))
    code, out, err = run("transcribe", "-p", "fp16", "-m", model, clip)
    assert code == 0
    assert out.strip()
    assert "did not load (encoder-model.fp16.onnx is not an ONNX file)" in err


def transcribe_in_its_own_process(
    *arguments: object, cwd: Path
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stt", "transcribe", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.mark.e2e
def test_a_recording_of_which_fp16_makes_nothing_goes_on_in_fp32(tmp_path: Path) -> None:
    """FP16 files that give NaN, though proven: the words are FP32's, and everything says so."""
    model = tiny_tdt.build(tmp_path / "tiny")
    tiny_tdt.add_collapsing(model)
    paths = [SAMPLES / "weather.flac", SAMPLES / "train.flac"]
    done = transcribe_in_its_own_process(
        "-m", model, "-p", "fp16", "-o", "out", "-f", "json", *paths, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "precision fp16, provider cpu (asked for by name)" in done.stderr
    for path in paths:
        message = re.escape(f"stt: {path}: fp16 gave nothing usable at ") + (
            r"\d:\d\d \(NaN in the encoder output\); this recording goes on in fp32\n"
        )
        assert len(re.findall(message, done.stderr)) == 1
        result = json.loads((tmp_path / "out" / f"{path.stem}.json").read_text())
        assert set(result["text"].split()) == {"go"}
        assert result["precision"] == "fp32"
        assert re.fullmatch(
            r"fp16 gave nothing usable at \d:\d\d \(NaN in the encoder output\); "
            "fp32 from there on",
            result["reason"],
        )


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["-p", "fp32"], 0, "precision fp32, provider cpu (asked for by name)"),
        (["-p", "fp16"], 0, "(asked for by name; not proven here (run `stt setup "),
        ([], 0, "(fp16 passed over: not proven here (run `stt setup "),
        (["-p", "fp16", "--strict"], 1, "and `strict` is set; run `stt setup`"),
        (["-p", "int8"], 0, "warning: precision int8 was asked for, fp32 runs"),
        (["-p", "mixed"], 2, "'mixed' is not one of 'auto', 'fp16', 'fp32', 'int8'"),
    ],
)
def test_fp16_that_is_not_proven(
    run: Run, tmp_path: Path, flags: list[str], code: int, message: str
) -> None:
    model = tiny_tdt.build(tmp_path / "tiny")
    tiny_tdt.add_collapsing(model)
    (model / "manifest.json").unlink()
    done = run("transcribe", "-m", model, *flags, SAMPLES / "weather.flac")
    assert done[0] == code
    assert message in done[2]
    assert ("go" in done[1]) == (code == 0)


@pytest.mark.slow
@pytest.mark.e2e
def test_the_starter_transcribes_a_sample_and_says_what_it_is(tmp_path: Path) -> None:
    """The real command in a process of its own, as a new user runs it."""
    import jiwer

    lines = (SAMPLES / "references.tsv").read_text("utf-8").splitlines()
    name, text = next(line.split("\t") for line in lines if line.startswith("weather"))
    command = [sys.executable, "-m", "stt", "transcribe", "-m", "starter", SAMPLES / name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "starter model" in done.stderr
    assert "stt setup" in done.stderr

    def plain(said: str) -> str:
        return re.sub(r"[^a-z' ]", "", said.lower().replace("\n", " "))

    assert jiwer.wer(plain(text), plain(done.stdout)) < 0.1


@pytest.mark.e2e
def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from stt.cli import main; main(['--help']);"
        "heavy = {'onnxruntime', 'onnx', 'av', 'soundfile', 'huggingface_hub', 'pydantic', 'rich'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "transcribe" in done.stdout


def test_a_loaded_transcriber_takes_arrays() -> None:
    import stt

    name, text = next(iter(SAID.items()))
    samples, rate = soundfile.read(CLIPS / name, dtype="float32")
    transcriber = stt.load(DIGITS)
    assert transcriber.transcribe(samples, sample_rate=rate).text == text
    stereo = np.repeat(samples[:, None], 2, axis=1)
    assert transcriber.transcribe(stereo, sample_rate=rate).text == text
    pcm = (samples * 32767).astype(np.int16)
    assert " ".join(s.text for s in transcriber.segments(pcm, sample_rate=rate)) == text
    with pytest.raises(stt.SttError, match="channels come last"):
        transcriber.transcribe(stereo.T, sample_rate=rate)


@pytest.mark.e2e
def test_ctrl_c_keeps_what_was_finished(tmp_path: Path) -> None:
    import os
    import signal
    import time

    if os.name != "posix":
        pytest.skip("sends a POSIX signal")
    samples, rate = soundfile.read(CLIPS / next(iter(SAID)), dtype="float32")
    short, long = tmp_path / "short.wav", tmp_path / "long.wav"
    soundfile.write(short, samples, rate)
    soundfile.write(long, np.tile(np.append(samples, np.zeros(rate)), 300), rate)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "stt", "transcribe", "-m", DIGITS, "-o", out, short, long]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (out / "short.txt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "stt: stopped" in err
    assert "Traceback" not in err
    assert "stt: stopped with 1 to do; run the same command again" in err
    assert {p.name for p in out.iterdir()} == {"short.txt", ".stt"}


@pytest.mark.e2e
def test_nothing_is_left_behind_or_reported(tmp_path: Path) -> None:
    """ONNX Runtime's telemetry client opens a session file when it is not switched off."""
    import os

    clip = CLIPS / next(iter(SAID))
    command = [sys.executable, "-m", "stt", "transcribe", "-q", "-m", DIGITS, clip]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ORT_")}
    environment = kept | {"TMPDIR": str(tmp_path)}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    assert list(tmp_path.iterdir()) == []
