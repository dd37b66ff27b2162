"""What editing does to times, and what is downloaded: the page's modules, called by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.browsing import Watched, chromium, skip_without_browser
from support.loading import load_model
from support.paths import DIGITS
from support.serving import running

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    skip_without_browser()
    load = load_model(DIGITS, precision="fp32", provider="cpu")
    with running(lambda: load) as server, chromium() as browser:
        yield Watched(browser, server.url).page


def call(page: Any, module: str, name: str, *arguments: Any) -> Any:
    return page.evaluate(
        "async ([module, name, given]) => (await import(`/page/${module}.js`))[name](...given)",
        [module, name, list(arguments)],
    )


def word(text: str, start: float, end: float) -> dict[str, Any]:
    return {"text": text, "start": start, "end": end, "confidence": 0.9, "edited": False}


def said(*texts: str) -> list[dict[str, Any]]:
    return [word(text, float(n), n + 0.8) for n, text in enumerate(texts)]


def spans(words: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    return [(one["text"], round(one["start"], 3), round(one["end"], 3)) for one in words]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b c", [("a", 0, 0.8), ("b", 1, 1.8), ("c", 2, 2.8)]),
        ("a X c", [("a", 0, 0.8), ("X", 1, 1.8), ("c", 2, 2.8)]),
        ("a xx yy c", [("a", 0, 0.8), ("xx", 1, 1.4), ("yy", 1.4, 1.8), ("c", 2, 2.8)]),
        ("a c", [("a", 0, 0.8), ("c", 2, 2.8)]),
        ("a b x c", [("a", 0, 0.8), ("b", 1, 1.4), ("x", 1.4, 1.8), ("c", 2, 2.8)]),
        ("x a b c", [("x", 0, 0.4), ("a", 0.4, 0.8), ("b", 1, 1.8), ("c", 2, 2.8)]),
        ("xx", [("xx", 0, 2.8)]),
        ("", []),
    ],
)
def test_a_changed_word_takes_the_span_of_what_it_replaces(
    page: Any, text: str, expected: list[tuple[str, float, float]]
) -> None:
    assert spans(call(page, "document", "retimed", said("a", "b", "c"), text)) == expected


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=8),
    st.lists(st.sampled_from("abcd"), max_size=8),
)
def test_whatever_is_edited_times_rise_and_what_stands_keeps_its_own(
    page: Any, old: list[str], new: list[str]
) -> None:
    before = said(*old)
    after = call(page, "document", "retimed", before, " ".join(new))
    assert [one["text"] for one in after] == new
    for one, other in pairwise(after):
        assert one["start"] <= one["end"] <= other["start"] + 1e-9
    known = {(one["text"], one["start"]) for one in before}
    kept = [one for one in after if not one["edited"] and one["confidence"] is not None]
    assert all((one["text"], one["start"]) in known or one["start"] > 0 for one in kept)
    if old == new:
        assert after == before


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["a", "it", "Wednesday", "incomprehensibilities"]), max_size=60))
def test_cues_keep_all_words_within_two_lines(page: Any, texts: list[str]) -> None:
    words = said(*texts)
    segments = [{"start": 0, "end": len(texts), "text": " ".join(texts), "words": words}]
    cues = call(page, "formats", "cues", segments)
    assert " ".join(line for cue in cues for line in cue["lines"]).split() == texts
    for cue in cues:
        assert len(cue["lines"]) <= 2
        assert all(len(line) <= 42 for line in cue["lines"])
        assert cue["start"] < cue["end"]
    for cue, after in pairwise(cues):
        assert cue["end"] <= after["start"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "00:00:00.000"), (59.9996, "00:01:00.000"), (3661.5, "01:01:01.500")],
)
def test_moments_are_written_as_subtitles_have_them(
    page: Any, seconds: float, expected: str
) -> None:
    assert call(page, "formats", "moment", seconds, ".") == expected


def test_speakers_are_renamed_once_for_all(page: Any) -> None:
    segments = [
        {"start": n, "end": n + 1, "text": "Yes.", "words": [], "speaker": f"speaker {n % 2}"}
        for n in range(4)
    ]
    named = call(page, "document", "renamed", segments, "speaker 1", "Ada")
    assert call(page, "document", "speakers", named) == ["speaker 0", "Ada"]
    document = {"segments": named, "source": "x", "json": {"segments": segments, "coverage": None}}
    assert "<v Ada>Yes." in call(page, "formats", "written", document, "vtt")
    assert "Ada: Yes." in call(page, "formats", "written", document, "txt")
