"""Plain text: paragraphs as a person would paste them, the same while it comes and in the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt.text.formats import Paragraphs, paragraphs
from stt.text.subtitles import one_line
from stt.transcript import Segment


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


texts = st.one_of(st.text(max_size=30), st.sampled_from(["One.", "two", "Three!", "", " "]))
segments_ = st.lists(st.tuples(st.floats(0, 8), texts), max_size=30).map(lambda p: said(*p))


@given(segments_, st.one_of(st.none(), st.integers(10, 40)))
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
