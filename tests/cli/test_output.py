"""Lines of news fit a terminal; commands in them can be copied."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stt.cli.output import fitted


def test_lines_break_at_spaces_only() -> None:
    told = "stt: standin from someone/standin-of-parakeet at revision c0ffee000000, 2.55 GB"
    assert fitted(told, 40) == (
        "stt: standin from\nsomeone/standin-of-parakeet at revision\nc0ffee000000, 2.55 GB"
    )


def test_a_command_stays_on_one_line() -> None:
    told = "stt: nothing fits; run `stt setup --precision int8` and then go on"
    assert fitted(told, 34).split("\n")[1] == "`stt setup --precision int8` and"
    assert "`stt setup --precision int8`" in fitted(told, 20)  # wider than the terminal


def test_lines_that_are_no_news_of_a_terminal_stay_as_they_are() -> None:
    told = f"stt: {'word ' * 40}end"
    assert fitted(told, None) == told
    assert fitted("stt: a\n\n  b", 80) == "stt: a\n\n  b"


@given(st.text(alphabet="ab `-\n", max_size=80), st.integers(5, 30))
def test_no_letter_is_lost(text: str, columns: int) -> None:
    assert fitted(text, columns).split() == text.split()
