"""Speech of any level, any length and in any precision: the same words.

INT8 of Parakeet is reported to give nothing for utterances over 12 s below -40 dB full scale.
"""

from __future__ import annotations

import shutil
from functools import cache
from itertools import cycle
from pathlib import Path

import jiwer
import numpy as np
import pytest
import soundfile
import soxr

import stt
from stt.cli import main
from stt.convert import fp16
from stt.convert.int8 import quantize
from stt.types import Samples
from support.command import SAID
from support.paths import DIGITS, ROOT

RATE = 16_000
CASES = ROOT.parent / "shared/cases"
S = "The evening train to Bristol is running a few minutes late."
LEVELS = (-20, -30, -40, -50, -60)
LENGTHS = (5, 15, 30)
PRECISIONS = ("fp32", "fp16", "int8")


def as_recorded(samples: Samples, rms: float) -> Samples:
    """Samples at this level (dB full scale, RMS), in the steps of 16 bits."""
    wanted = samples * 10 ** (rms / 20) / np.sqrt(np.mean(samples**2))
    return np.asarray(np.round(wanted.clip(-1, 1) * 32767) / 32768, np.float32)


def errors(expected: str, text: str) -> int:
    """Words that differ."""
    plain = ["".join(c for c in one.lower() if c.isalpha() or c == " ") for one in (expected, text)]
    found = jiwer.process_words(*(" ".join(one.split()) or "nothing" for one in plain))
    return found.substitutions + found.deletions + found.insertions


# --- the tests' transducer -----------------------------------------------------------------


@cache
def digits_said(seconds: int) -> tuple[Samples, str]:
    """So many seconds of digits, with short pauses, and their words."""
    parts, said, length = list[Samples](), list[str](), 0
    for name in cycle(("eight-digits.flac", "four-digits.flac", "two-digits.flac")):
        clip, rate = soundfile.read(DIGITS / "clips" / name, dtype="float32")
        assert rate == RATE
        length += len(clip) + RATE // 4
        if length > seconds * RATE:
            break
        parts += [clip, np.zeros(RATE // 4, np.float32)]
        said.append(SAID[name])
    return np.concatenate(parts), " ".join(said)


@pytest.mark.parametrize(
    "precision",
    [*(pytest.param(kind, marks=pytest.mark.slow) for kind in ("fp32", "fp16")), "int8"],
)
def test_digits_of_any_level_and_length(tmp_path: Path, precision: str) -> None:
    shutil.copytree(DIGITS, tmp_path, ignore=shutil.ignore_patterns("clips"), dirs_exist_ok=True)
    for graph in ("encoder-model", "decoder_joint-model"):
        converted = tmp_path / f"{graph}.{precision}.onnx"
        if precision != "fp32":
            {"fp16": fp16.convert, "int8": quantize}[precision](
                tmp_path / f"{graph}.onnx", converted
            )
    transcriber = stt.load(tmp_path, precision=precision, strict=True, provider="cpu", threads=1)
    wrong = {}
    for seconds in LENGTHS:
        samples, expected = digits_said(seconds)
        for level in LEVELS:
            text = transcriber.transcribe(as_recorded(samples, level), sample_rate=RATE).text
            wrong[seconds, level] = errors(expected, text)
    assert not any(wrong.values()), wrong


# --- the starter ---------------------------------------------------------------------------


@cache
def sample(name: str, seconds: float) -> Samples:
    """The beginning of a sample that is spoken at an ordinary level."""
    values, rate = soundfile.read(ROOT / f"samples/{name}.flac", dtype="float32", always_2d=True)
    whole = soxr.resample(values.mean(axis=1), rate, RATE)
    return np.asarray(whole[: round(seconds * RATE)], np.float32)


@pytest.fixture(scope="module")
def expected() -> dict[int, str]:
    """What the starter hears, in FP32 and at an ordinary level."""
    transcriber = stt.load("starter", precision="fp32", provider="cpu", threads=1)
    return {n: transcriber.transcribe(sample("story", n), sample_rate=RATE).text for n in LENGTHS}


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_starter_at_any_level_and_length(expected: dict[int, str], precision: str) -> None:
    try:
        transcriber = stt.load(
            "starter", precision=precision, strict=True, provider="cpu", threads=1
        )
    except stt.SttError as error:
        pytest.skip(f"the starter has no {precision}: {error}")
    wrong = {}
    for seconds in LENGTHS:
        for level in LEVELS:
            samples = as_recorded(sample("story", seconds), level)
            text = transcriber.transcribe(samples, sample_rate=RATE).text
            wrong[seconds, level] = errors(expected[seconds], text)
    assert all(count <= 2 + 0.05 * 2.5 * length for (length, _), count in wrong.items()), wrong


# --- what was lost -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def starter() -> stt.Transcriber:
    return stt.load("starter", precision="fp32", provider="cpu", threads=1)


@pytest.mark.parametrize(
    ("name", "expected", "allowed", "noted"),
    [
        ("peak-55-dbfs.flac", S, 0, ""),
        pytest.param("float-in-int16-range.wav", S, 0, "16-bit", marks=pytest.mark.slow),
        pytest.param("nan-in-one-sample.wav", S, 0, "1.90 s", marks=pytest.mark.slow),
        pytest.param(
            "rumble-20-90hz.flac",
            "Good morning. A band of rain will cross the west this afternoon, and the wind will "
            "grow stronger along the coast. By evening the clouds should clear, leaving a cold "
            "and quiet night.",
            4,
            "",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_case(
    starter: stt.Transcriber, name: str, expected: str, allowed: int, noted: str
) -> None:
    if not (CASES / name).exists():
        pytest.skip("the shared cases are not here")
    transcript = starter.transcribe(CASES / name)
    assert errors(expected, transcript.text) <= allowed, transcript.text
    assert transcript.coverage and transcript.coverage.failures == ()
    assert noted in " ".join(transcript.coverage.notes)


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0.1, 0.5, -0.9])
@pytest.mark.parametrize("level", [-30.0, -45.0])
def test_quiet_speech_on_a_constant_offset(
    starter: stt.Transcriber, level: float, offset: float
) -> None:
    samples = as_recorded(sample("train", 3.6), level) + np.float32(offset)
    transcript = starter.transcribe(samples, sample_rate=RATE)
    assert errors(S, transcript.text) <= 1, transcript.text


@pytest.mark.parametrize(
    ("scale", "fault", "code", "words", "reported"),
    [
        (
            *(2.0**15, slice(20_000, 20_001), 0, 8),
            [
                "note: its samples are floating-point numbers in the range of 16-bit",
                "note: 1 sample is not sound",
                "at 1.25 s",
            ],
        ),
        (1.0, slice(20_000, 25_000), 1, 6, ["0.3 s are not sound", "1.25 to 1.56 s"]),
    ],
)
def test_faults_of_a_float_recording_on_the_command_line(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    scale: float,
    fault: slice,
    code: int,
    words: int,
    reported: list[str],
) -> None:
    clip, rate = soundfile.read(DIGITS / "clips/eight-digits.flac", dtype="float32")
    clip *= np.float32(scale)
    clip[fault] = np.nan if scale > 1 else np.inf
    soundfile.write(tmp_path / "a.wav", clip, rate, "FLOAT")
    assert main(["transcribe", "-m", str(DIGITS), str(tmp_path / "a.wav")]) == code
    out, err = capfd.readouterr()
    assert words <= len(out.split()) <= 8
    assert all(part in err for part in reported)


def test_speech_below_16_bits_is_noted() -> None:
    transcriber = stt.load(DIGITS, precision="fp32", provider="cpu", threads=1)
    samples, _ = digits_said(15)
    faint = transcriber.transcribe(as_recorded(samples, -85), sample_rate=RATE)
    assert faint.coverage and "lie below -75 dB full scale" in " ".join(faint.coverage.notes)
    quiet = transcriber.transcribe(as_recorded(samples, -55), sample_rate=RATE)
    assert quiet.coverage and quiet.coverage.notes == ()
