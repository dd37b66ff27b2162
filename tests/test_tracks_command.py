"""`--track`, `--channel`, `--start` and `--end` as a person uses them, with a model of digits."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import soundfile

import stt
from stt.audio.selection import Selection
from stt.audio.utterances import Utterance
from stt.engine.fallback import Fallback
from stt.transcript import FORMAT_NAMES
from support import media
from support.command import SAID, Run
from support.loading import load_model
from support.paths import CLIPS, DIGITS, ROOT

RATE = 16_000


def clip(name: str, seconds: float) -> media.Samples:
    """A clip at 16 kHz, with silence behind it."""
    samples, rate = soundfile.read(CLIPS / name, dtype="float32")
    assert rate == RATE
    return np.pad(samples, (0, max(0, round(seconds * RATE) - len(samples))))


@pytest.fixture
def run(stt_run: Run) -> Run:
    """Transcribe with the digits model."""
    return partial(stt_run, "transcribe", "-m", DIGITS)


FOUR, TWO = "four-digits.flac", "two-digits.flac"


@pytest.fixture
def call_record(tmp_path: Path) -> Path:
    """One speaker left, another right, who begins 2 s later."""
    left, right = clip(FOUR, 9.0), np.roll(clip(TWO, 9.0), 2 * RATE)
    return media.write(tmp_path / "call.wav", np.stack([left, right], 1), RATE)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Track 1 silent, track 2 (German by its label) and track 3 speak."""
    loud = [np.repeat(clip(name, 6.0), 3) for name in (FOUR, TWO)]
    sounds = [np.zeros_like(loud[0]), *loud]
    path = tmp_path / "film.mka"
    return media.tracks(path, sounds, 48_000, "flac", languages=("eng", "ger", "fre"))


def test_each_channel_is_heard_for_itself(run: Run, call_record: Path) -> None:
    code, out, err = run("--channel", "each", call_record)
    assert code == 0
    assert sorted(filter(None, out.splitlines())) == [
        f"[left] {SAID[FOUR]}",
        f"[right] {SAID[TWO]}",
    ]
    assert "0:09 of audio" in err
    code, out, _ = run("--channel", "right", call_record)
    assert (code, out) == (0, f"{SAID[TWO]}\n")


def test_every_format_names_the_channel(run: Run, call_record: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert (
        run("--channel", "each", "-o", out, "-f", "txt,json,srt,vtt,ass,tsv", call_record)[0] == 0
    )
    document = json.loads((out / "call.json").read_text("utf-8"))
    schema = json.loads((ROOT / "docs" / "transcript.schema.json").read_text("utf-8"))
    jsonschema.validate(document, schema)
    assert {(s["channel"], s["text"]) for s in document["segments"]} == {
        ("left", SAID[FOUR]),
        ("right", SAID[TWO]),
    }
    starts = [segment["start"] for segment in document["segments"]]
    assert starts == sorted(starts)
    assert document["duration"] == 9.0
    coverage = document["coverage"]
    assert coverage["decoded"] + sum(coverage["skipped"].values()) == pytest.approx(18.0)
    for form in set(FORMAT_NAMES) - {"json"}:
        text = (out / f"call.{form}").read_text("utf-8")
        assert f"[left] {SAID[FOUR].split()[0]}" in text
        assert f"[right] {SAID[TWO].split()[0]}" in text


def test_a_track_is_chosen(run: Run, film: Path) -> None:
    assert run("--track", "2", film)[:2] == (0, f"{SAID[FOUR]}\n")
    assert run("--track", "fr", film)[:2] == (0, f"{SAID[TWO]}\n")
    code, out, _ = run("--track", "all", film)
    assert code == 0
    assert sorted(filter(None, out.splitlines())) == [
        f"[track 2] {SAID[FOUR]}",
        f"[track 3] {SAID[TWO]}",
    ]


def test_a_silent_default_track_is_noted_with_the_cure(run: Run, film: Path) -> None:
    code, out, err = run(film)
    assert (code, out) == (0, "")
    assert "note: track 1 holds no speech, tracks 2 and 3 do: choose one with --track 2" in err
    assert "track 2 (ger, mono)" in err


def test_other_tracks_are_named(run: Run, tmp_path: Path) -> None:
    sounds = [np.repeat(clip(name, 6.0), 3) for name in (FOUR, TWO)]
    path = media.tracks(tmp_path / "a.mka", sounds, 48_000, "flac", default=1)
    code, out, err = run(path)
    assert (code, out) == (0, f"{SAID[TWO]}\n")
    assert "note: of 2 sound tracks, track 2 is heard; --track N, LANG or all chooses from" in err


def test_a_track_of_which_nothing_can_be_had_costs_no_other(run: Run, tmp_path: Path) -> None:
    sounds = [np.repeat(clip(FOUR, 6.0), 3), np.zeros(0, np.float32)]
    path = media.tracks(tmp_path / "a.mka", sounds, 48_000, "flac")
    code, out, err = run("--track", "all", path)
    assert (code, out) == (1, f"[track 1] {SAID[FOUR]}\n")
    assert "warning: track 2: holds no audio (0 samples)" in err


def test_times_of_a_stretch_are_those_of_the_recording(run: Run, call_record: Path) -> None:
    whole = json.loads(run("--channel", "left", "-f", "json", call_record)[1])
    spoken = [word for segment in whole["segments"] for word in segment["words"]]
    cut = (spoken[1]["end"] + spoken[2]["start"]) / 2
    code, out, _ = run(
        "--channel", "left", "-f", "json", "--start", f"{cut:.3f}", "--end", "8", call_record
    )
    assert code == 0
    part = json.loads(out)
    found = [word for segment in part["segments"] for word in segment["words"]]
    assert [word["text"].lower() for word in found] == [w["text"].lower() for w in spoken[2:]]
    for one, other in zip(found, spoken[2:], strict=True):
        assert one["start"] == pytest.approx(other["start"], abs=0.1)
    assert part["duration"] == pytest.approx(8 - cut, abs=0.002)


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--start", "1:00"], 1, "the start (1:00) lies beyond its end (0:09)"),
        (["--start", "5", "--end", "2"], 2, "the end (0:02) must lie after the start (0:05)"),
        (["--channel", "3"], 1, "has no channel 3, it has 2 channels"),
        (["--track", "2"], 1, "has no sound track 2; choose from"),
        (["--channel", "middle"], 2, "give left, right, a number from 1, or each"),
        (["--track", "all", "--channel", "each"], 2, "do not go together"),
    ],
)
def test_what_is_not_there_is_one_line(
    run: Run, call_record: Path, flags: list[str], code: int, message: str
) -> None:
    found, out, err = run("-q", *flags, call_record)
    assert (found, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_the_journal_knows_what_was_heard(run: Run, call_record: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("-o", out, "--channel", "each", call_record)[0] == 0
    first = (out / "call.txt").read_text("utf-8")
    code, _, err = run("-o", out, "--channel", "each", call_record)
    assert code == 0
    assert "channel was" not in err
    code, _, err = run("-o", out, "--channel", "left", "--start", "0:00.5", call_record)
    assert code == 0
    assert "channel was each and is left, start was 0.0 and is 0.5" in err
    assert (out / "call.txt").read_text("utf-8") != first


class _Deaf:
    """A recogniser that must not be asked."""

    provider, tells_words, streams = "cpu", True, 1

    def recognize(self, batch: object) -> list[list[stt.Segment]]:
        raise AssertionError("it was recognised again")


def test_what_is_remembered_of_each_channel_is_not_recognised_again(call_record: Path) -> None:
    kept: dict[tuple[int, int], tuple[list[stt.Segment], Fallback | None]] = {}

    class Cache:
        def keep(
            self, utterance: Utterance, segments: list[stt.Segment], fallback: Fallback | None
        ) -> None:
            assert (utterance.start, len(utterance.samples)) not in kept
            kept[utterance.start, len(utterance.samples)] = (segments, fallback)

        def recall(self, utterance: Utterance) -> tuple[list[stt.Segment], Fallback | None] | None:
            return kept.get((utterance.start, len(utterance.samples)))

    each = replace(load_model(DIGITS), selection=Selection.of(channel="each", start=0.25))
    first = each.transcribe(call_record, cache=Cache())
    assert len(kept) >= 2
    again = replace(each, recognizer=_Deaf()).transcribe(call_record, cache=Cache())
    assert again.segments == first.segments


def test_in_python_too(call_record: Path) -> None:
    found = stt.transcribe(call_record, DIGITS, channel="right", start=1, end="0:08")
    assert found.text == SAID[TWO]
    samples, rate = soundfile.read(call_record, dtype="float32")
    loaded = stt.load(DIGITS)
    each = loaded.hearing(channel="each")
    segments = each.transcribe(samples, sample_rate=rate).segments
    assert {s.channel: s.text for s in segments} == {"left": SAID[FOUR], "right": SAID[TWO]}
    assert {s.channel for s in each.segments(samples, sample_rate=rate)} == {"left", "right"}
    inverted = np.stack([samples[:, 0], -samples[:, 0]], 1)
    heard = loaded.transcribe(inverted, sample_rate=rate)
    assert heard.text == SAID[FOUR]
    assert heard.coverage is not None
    assert heard.coverage.notes == (
        "its channels cancel each other (opposite polarity): their difference is read",
    )
    with pytest.raises(stt.SttError, match="must lie after"):
        stt.transcribe(call_record, DIGITS, start=2, end=1)
