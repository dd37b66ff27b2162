"""Every format against a file kept beside the tests, and its escapes.

After a wanted change `UPDATE_GOLDEN=1 pytest tests/text/test_formats.py`, then read the difference.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import jsonschema
import numpy as np
import pysubs2
import pytest
import webvtt
from hypothesis import assume, example, given
from hypothesis import strategies as st

from stt.text import transcript as transcripts
from stt.text.formats import Paragraphs, paragraphs
from stt.text.subtitles import Cue, cues, one_line
from stt.text.transcript import FORMATS, Transcript
from stt.transcript import Choice, Coverage, Segment, SubtitleStyle, Word
from support.paths import ROOT, TESTS

GOLDEN = TESTS / "golden"
SCHEMA = json.loads((ROOT / "docs" / "transcript.schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
CHOICE = Choice("fp32", "cpu", "the only precision installed")

SENTENCE = (
    ("Good", 0.4, 0.56),
    ("morning,", 0.56, 0.96),
    ("Zoë;", 1.04, 1.52),
    ("the", 1.6, 1.68),
    ("wind", 1.68, 2.0),
    ("will", 2.0, 2.16),
    ("grow", 2.16, 2.4),
    ("stronger", 2.4, 2.96),
    ("along", 2.96, 3.2),
    ("the", 3.2, 3.28),
    ("coast.", 3.28, 3.8412),
)
RECORDING = Transcript(
    source="talks/größe.wav",
    duration=47.5004,
    segments=(
        Segment(
            0.4,
            3.8412,
            "Good morning, Zoë; the wind will grow stronger along the coast.",
            0.91236,
            tuple(Word(start, end, text, 0.87654) for text, start, end in SENTENCE),
        ),
        Segment(4.0, 6.5, "R&D said a < b --> c,\tthen\nleft.", 0.8),
        Segment(7.0, 7.0, "  ", 0.0),
        Segment(
            3661.25,
            3664.0,
            "See https://example.org/a/path/longer/than/one/line/can/hold now.",
            0.7,
        ),
    ),
    model="parakeet",
    choice=CHOICE,
    elapsed=4.75,
    coverage=Coverage(
        40.25,
        {"digital zero": 1.0, "failed": 2.25, "non-speech": 3.0, "silence": 1.0004},
        0.064,
        ("0:12 to 0:14: NaN in the encoder output",),
        2,
    ),
)
NOTHING = Transcript("-", 3.0, (), "starter", CHOICE, 0.0)


@pytest.fixture(autouse=True)
def fixed_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcripts, "stt_version", lambda: "0.0.0")


TIMED = SubtitleStyle(word_timestamps=True)


@pytest.mark.parametrize(
    ("name", "recording", "style"),
    [
        *((f"recording.{form}", RECORDING, None) for form in FORMATS),
        *((f"nothing.{form}", NOTHING, None) for form in FORMATS),
        *((f"recording.words.{form}", RECORDING, TIMED) for form in ("vtt", "ass")),
    ],
)
def test_golden(name: str, recording: Transcript, style: SubtitleStyle | None) -> None:
    path = GOLDEN / name
    text = recording.to(path.suffix[1:], style)
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_bytes(text.encode())
    assert text == path.read_bytes().decode()


numbers = st.floats(0, 1e6, allow_nan=False)
shares = st.floats(0, 1, allow_nan=False)
texts = st.text(max_size=40)


@st.composite
def words(draw: st.DrawFn) -> Word:
    start = draw(numbers)
    return Word(start, start + draw(numbers), draw(texts), draw(shares))


@st.composite
def recordings(draw: st.DrawFn) -> Transcript:
    segments = tuple(
        Segment(start, start + draw(numbers), draw(texts), draw(shares), tuple(inside))
        for start, inside in draw(
            st.lists(st.tuples(numbers, st.lists(words(), max_size=4)), max_size=3)
        )
    )
    elapsed = draw(st.floats(0.001, 1e6))
    return Transcript(draw(texts), draw(numbers), segments, draw(texts), CHOICE, elapsed)


@given(recordings())
def test_json_keeps_to_its_schema(recording: Transcript) -> None:
    document = json.loads(recording.to("json"))
    VALIDATOR.validate(document)
    assert document["text"] == recording.text
    for segment, values in zip(recording.segments, document["segments"], strict=True):
        assert abs(values["start"] - segment.start) <= 0.0005 + 1e-9
        assert values["start"] <= values["end"]
        assert [word["text"] for word in values["words"]] == [word.text for word in segment.words]


def test_the_schema_is_one_and_describes_every_key() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    document = json.loads(RECORDING.to("json"))
    assert list(document) == SCHEMA["required"] == list(SCHEMA["properties"])
    assert document["schema_version"] == transcripts.JSON_SCHEMA_VERSION
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document | {"extra": 1}, SCHEMA)


def test_json_is_utf8_also_of_a_file_name_that_is_not() -> None:
    assert "Zoë" in RECORDING.to("json")
    name = b"caf\xe9.wav".decode("utf-8", "surrogateescape")
    text = Transcript(name, 1.0, (), "m", CHOICE, 1.0).to("json")
    assert json.loads(text.encode("utf-8"))["source"] == "caf\ufffd.wav"


def test_the_version_is_that_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert re.fullmatch(r"\d+\.\d+\.\d+.*|unknown", transcripts.stt_version())


@given(recordings())
def test_tsv_has_a_line_for_each_segment(recording: Transcript) -> None:
    said = sum(1 for segment in recording.segments if one_line(segment.text))
    tsv = recording.to("tsv")
    assert tsv.count("\n") == len(tsv.splitlines()) == said + 1
    assert all(row.count("\t") == 2 for row in tsv.splitlines())


@given(recordings())
def test_subtitles_parse_back(recording: Transcript) -> None:
    clock = r"\d\d+:[0-5]\d:[0-5]\d{}\d{{3}}"
    for name, sign in (("srt", ","), ("vtt", r"\.")):
        time = clock.format(sign)
        blocks = recording.to(name).split("\n\n")
        if name == "vtt":
            assert blocks.pop(0).strip() == "WEBVTT"
        for number, block in enumerate(filter(None, blocks), start=1):
            head = rf"{number}\n" if name == "srt" else ""
            assert re.match(rf"{head}{time} --> {time}\n.", block), block
            assert block.count("-->") == 1


def test_vtt_escapes_what_would_be_markup() -> None:
    assert "R&amp;D said a &lt; b --&gt; c," in RECORDING.to("vtt")
    assert "R&D said a < b -> c," in RECORDING.to("srt")


def test_ass_escapes_what_would_be_an_override() -> None:
    odd = Transcript("-", 3.0, (Segment(0, 2, r"a {\b1} C:\New one", 0.9),), "m", CHOICE, 1.0)
    (event,) = pysubs2.SSAFile.from_string(odd.to("ass"), "ass").events
    assert event.text == "a \\{\\\u2060b1\\} C:\\\u2060New one"
    assert "\n" not in event.plaintext


def shown(cue: Cue) -> str:
    return "\n".join(cue.lines)


@given(recordings(), st.booleans())
def test_real_parsers_read_what_is_shown(recording: Transcript, timed: bool) -> None:
    style = SubtitleStyle(word_timestamps=timed)
    expected = cues(recording.segments, recording.duration, style)
    assume(all(cue.end < 99 * 3600 for cue in expected))  # SubStation has no more hours
    ass = pysubs2.SSAFile.from_string(recording.to("ass", style), "ass")
    assert len(ass.events) == len(expected)
    for event, cue in zip(ass.events, expected, strict=True):
        assert (event.start, event.end) == (
            pytest.approx(cue.start * 1000, abs=10),
            pytest.approx(cue.end * 1000, abs=10),
        )
        assert event.start <= event.end
    if any("<" in shown(cue) or "{" in shown(cue) for cue in expected):
        return  # these parsers take for markup what SubRip has no escape for
    srt = pysubs2.SSAFile.from_string(recording.to("srt", style), "srt")
    assert [event.plaintext for event in srt.events] == [
        shown(cue).replace("-->", "->") for cue in expected
    ]


def test_a_web_player_s_parser_reads_the_words() -> None:
    found = webvtt.from_string(RECORDING.to("vtt", TIMED)).captions
    expected = cues(RECORDING.segments, RECORDING.duration, TIMED)
    assert [(one.start_in_seconds, one.end_in_seconds) for one in found] == [
        (int(cue.start), int(cue.end)) for cue in expected
    ]
    assert html.unescape(found[0].text) == shown(expected[0])
    stamps = re.findall(r"<(\d\d):(\d\d):(\d\d\.\d{3})>", found[0].raw_text)
    times = [int(h) * 3600 + int(m) * 60 + float(s) for h, m, s in stamps]
    assert times == [round(start, 3) for _, start, _ in SENTENCE[1:]]


@given(recordings())
def test_word_times_rise_within_their_cue(recording: Transcript) -> None:
    text = recording.to("vtt", TIMED)
    for block in text.split("\n\n")[1:]:
        stamps = re.findall(r"(\d\d+):(\d\d):(\d\d\.\d{3})", block)
        start, end, *inner = [int(h) * 3600 + int(m) * 60 + float(s) for h, m, s in stamps]
        assert all(a < b for a, b in pairwise((start, *inner, end)))


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize("form", ["srt", "vtt", "ass"])
def test_ffmpeg_burns_it_into_a_picture(form: str, tmp_path: Path) -> None:
    """Something white appears at the foot of a black picture while a cue is shown, and goes."""
    (tmp_path / f"talk.{form}").write_text(RECORDING.to(form, TIMED), "utf-8")
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "color=black:s=640x360:r=5:d=9"]
    burn = ["-vf", f"subtitles=talk.{form}", "-f", "rawvideo", "-pix_fmt", "gray", "out.raw"]
    subprocess.run([*command, *burn], cwd=tmp_path, check=True)
    pictures = np.fromfile(tmp_path / "out.raw", np.uint8).reshape(-1, 360, 640)
    assert len(pictures) == 45
    lit = (pictures > 100).sum(axis=(1, 2))
    shown = cues(RECORDING.segments, RECORDING.duration, TIMED)
    for number, count in enumerate(lit):
        time = number / 5
        shown_now = any(cue.start <= time + 0.01 < cue.end for cue in shown)
        assert (count > 100) == shown_now, time
    assert (pictures[:, :180] > 100).sum() == 0  # at the foot


def said(*parts: tuple[float, str], channel: str = "") -> list[Segment]:
    """Segments of one second each, every one after a pause of so many seconds."""
    made, end = [], 0.0
    for pause, text in parts:
        made.append(Segment(end + pause, end + pause + 1, text, 0.9, channel=channel))
        end += pause + 1
    return made


def test_sentences_and_phrases_are_joined() -> None:
    phrases = said((0, "The evening train"), (0, "to Bristol is late."), (0.5, "Good morning."))
    assert paragraphs(phrases) == "The evening train to Bristol is late. Good morning.\n"


@pytest.mark.parametrize(
    ("pause", "text", "apart"),
    [
        (1.9, "One.", False),
        (2.0, "One.", True),
        (2.0, "One", False),
        (4.9, "One,", False),
        (5.0, "One", True),
        (2.5, "Dr.", False),
        (2.5, "Really?", True),
        (2.5, 'He said "no."', True),
    ],
)
def test_a_long_pause_behind_a_sentence_ends_a_paragraph(
    pause: float, text: str, apart: bool
) -> None:
    between = "\n\n" if apart else " "
    assert paragraphs(said((0, text), (pause, "Two."))) == f"{text}{between}Two.\n"


def test_a_paragraph_that_has_grown_ends_sooner() -> None:
    four = [(0.2, f"Sentence {n}.") for n in range(4)]
    assert paragraphs(said(*four, (0.9, "Next."))).count("\n\n") == 1
    assert paragraphs(said(*four[:3], (0.9, "Next."))).count("\n\n") == 0
    ten = [(0.1, f"Sentence {n}.") for n in range(30)]
    lengths = [p.count(".") for p in paragraphs(said(*ten)).strip().split("\n\n")]
    assert lengths == [10, 10, 10]
    assert paragraphs(said((0, "A. B. C. D."), (0.9, "E."))) == "A. B. C. D.\n\nE.\n"


def test_another_channel_speaks() -> None:
    segments = [
        *said((0, "Hello."), channel="left"),
        *said((1, "Hi."), (0, "So."), channel="right"),
    ]
    assert paragraphs(segments) == "[left] Hello.\n\n[right] Hi. So.\n"


pieces = st.one_of(st.text(max_size=30), st.sampled_from(["One.", "two", "Three!", "", " "]))
segments_ = st.lists(st.tuples(st.floats(0, 8), pieces), max_size=30).map(lambda p: said(*p))


@given(segments_, st.one_of(st.none(), st.integers(10, 40)))
@example(said((0, "\U0001f3fb"), (0, "0")), 10)
def test_as_it_comes_it_is_what_it_is_in_the_end(
    segments: list[Segment], width: int | None
) -> None:
    coming = Paragraphs(lambda: width)
    text = "".join([*(coming.take([segment]) for segment in segments), coming.end_line()])
    words = [word for s in segments for word in one_line(s.text).split(" ") if word]
    assert [w for w in text.replace("\n", " ").split(" ") if w] == words, "no word is lost"
    assert "\n\n\n" not in text
    if width is None:
        assert text == paragraphs(segments)
        assert not text or (text[-1] == "\n" and text[-2] != "\n" and text[0] != "\n")


@given(segments_)
def test_lines_are_no_longer_than_the_terminal(segments: list[Segment]) -> None:
    plain = [s for s in segments if s.text.isascii() and s.text.isprintable()]
    coming = Paragraphs(lambda: 20)
    text = coming.take(plain) + coming.end_line()
    assert all(len(line) <= 20 or " " not in line for line in text.split("\n"))


def test_wide_letters_take_two_columns() -> None:
    coming = Paragraphs(lambda: 10)
    assert coming.take(said((0, "日本語 日本語 ok"))) == "日本語\n日本語 ok"


def test_news_between_come_on_a_line_of_their_own() -> None:
    coming = Paragraphs()
    first, second = said((0, "One."), (0, "Two."))
    assert coming.take([first]) + coming.end_line() == "One.\n"
    assert coming.end_line() == ""
    assert coming.take([second]) + coming.end_line() == "Two.\n"
