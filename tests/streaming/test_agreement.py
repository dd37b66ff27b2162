"""What is committed, what stays a draft, and how a final text is reconciled with both."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stt.streaming.agreement import Agreement, Heard, heard
from stt.transcript import Segment, Word

LATER = 100.0
"""An edge so far away that no margin matters."""


def words(text: str, start: float = 0.0) -> list[Heard]:
    """Words of half a second each."""
    return [
        Heard(word, start + i / 2, start + i / 2 + 0.4, 0, 0.9)
        for i, word in enumerate(text.split())
    ]


def segment(text: str, start: float = 0.0, timed: bool = True) -> Segment:
    own = words(text, start)
    spoken = tuple(Word(w.start, w.end, w.text, 0.9) for w in own) if timed else ()
    return Segment(start, start + len(own) / 2, text, 0.9, spoken)


# --- committing ---------------------------------------------------------------------------------


def test_words_on_which_two_hypotheses_agree_are_committed() -> None:
    agreement = Agreement()
    assert agreement.update(words("the cat sat"), LATER) == ""
    assert agreement.draft == "the cat sat"
    assert agreement.update(words("the cat sits on"), LATER) == "the cat"
    assert (agreement.committed, agreement.draft) == ("the cat", "sits on")


def test_what_lies_near_the_edge_waits() -> None:
    agreement = Agreement(margin_s=0.8)
    agreement.update(words("the cat sat"), 1.5)
    assert agreement.update(words("the cat sat"), 1.5) == "the"
    assert agreement.update(words("the cat sat"), 1.75) == "cat"


def test_a_word_behind_one_that_waits_is_not_committed_before_it() -> None:
    """Times that a model gives may go back."""
    agreement = Agreement(margin_s=0.0)
    hypothesis = [Heard("a", 0.0, 9.0), Heard("b", 1.0, 2.0)]
    agreement.update(hypothesis, 3.0)
    assert agreement.update(hypothesis, 3.0) == ""
    assert agreement.draft == "a b"


def test_as_many_hypotheses_as_are_needed_must_agree() -> None:
    agreement = Agreement(needed=3)
    assert [agreement.update(words("one two"), LATER) for _ in range(3)] == ["", "", "one two"]


def test_case_and_punctuation_are_no_disagreement_and_the_latest_wording_stands() -> None:
    agreement = Agreement()
    agreement.update(words("well the cat"), LATER)
    assert agreement.update(words("Well, the cat."), LATER) == "Well, the cat."


def test_a_sign_alone_is_a_word_of_its_own() -> None:
    agreement = Agreement()
    agreement.update(words("one + two"), LATER)
    assert agreement.update(words("one - two"), LATER) == "one"


def test_repeated_words_are_neither_doubled_nor_swallowed() -> None:
    agreement = Agreement()
    agreement.update(words("no no no"), LATER)
    assert agreement.update(words("no no"), LATER) == "no no"
    assert agreement.update(words("no no no no"), LATER) == ""
    assert agreement.draft == "no no"
    assert agreement.update(words("no no no no yes"), LATER) == "no no"
    assert agreement.committed == "no no no no"


def test_committed_words_stand_against_a_hypothesis_that_has_them_otherwise() -> None:
    agreement = agreed("the cat sat")
    agreement.update(words("a bat sat on it"), LATER)
    assert (agreement.committed, agreement.draft) == ("the cat sat", "on it")


def test_a_hypothesis_that_hears_nothing_leaves_no_draft() -> None:
    agreement = agreed("the cat")
    agreement.update([], LATER)
    assert (agreement.committed, agreement.draft) == ("the cat", "")


def agreed(committed: str) -> Agreement:
    """An utterance of which these words are committed."""
    agreement = Agreement()
    for _ in range(2):
        agreement.update(words(committed), LATER)
    return agreement


# --- settling -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("committed", "final", "seam", "text", "disagreements"),
    [
        ("the cat", "the cat sat", False, "the cat sat", 0),
        ("the cat", "a cat sat", False, "the cat sat", 1),
        ("the old cat", "the cat sat", False, "the old cat sat", 1),
        ("the cat", "", False, "the cat", 2),
        ("one two", "one two three", True, "one two three", 0),
    ],
)
def test_committed_words_stand_in_the_final_text_and_disagreements_are_counted(
    committed: str, final: str, seam: bool, text: str, disagreements: int
) -> None:
    found = agreed(committed).settle([segment(final)] if final else [], seam=seam)
    assert (found.text, found.disagreements) == (text, disagreements)
    assert " ".join(s.text for s in found.segments) == found.text


def test_nothing_committed_leaves_the_final_as_it_is() -> None:
    final = (segment("The cat."), segment("It sat.", 5.0, timed=False))
    found = Agreement().settle(final)
    assert (found.segments, found.text) == (final, "The cat. It sat.")
    assert Agreement().settle([Segment(0, 1, "", 0.0)]).segments == (), "without words it goes"


def test_segments_keep_their_own_words_and_times() -> None:
    agreement = agreed("the cat")
    (one, two) = agreement.settle([segment("a cat sat"), segment("and left", 5.0)]).segments
    assert [w.text for w in one.words] == ["the", "cat", "sat"]
    assert [w.start for w in one.words] == [0.0, 0.5, 1.0]
    assert (two.text, two.start) == ("and left", 5.0)


def test_at_a_seam_words_committed_behind_the_cut_are_carried() -> None:
    agreement = agreed("one two three four")
    found = agreement.settle([segment("one two")], seam=True)
    assert (found.text, [w.text for w in found.carried]) == ("one two", ["three", "four"])
    behind = Agreement(carried=found.carried)
    assert behind.committed == "three four"
    assert behind.settle([segment("three for five", 1.0)]).text == "three four five"


def test_at_a_seam_that_hears_nothing_all_is_carried() -> None:
    agreement = agreed("one two")
    found = agreement.settle([], seam=True)
    assert (found.text, [w.text for w in found.carried]) == ("", ["one", "two"])


# --- words of segments --------------------------------------------------------------------------


def test_words_without_times_are_dealt_the_time_of_their_segment_by_letters() -> None:
    a, b = heard([Segment(1.0, 2.0, "a bcd", 0.5)])
    assert (a.start, a.end, b.start) == (1.0, 1.0 + 2 / 6, 1.0 + 2 / 6)
    assert abs(b.end - 2.0) < 1e-9


# --- properties ---------------------------------------------------------------------------------

few = st.sampled_from(["a", "A,", "b", "c.", "d", "-"])
times = st.floats(0, 20)
hypotheses = st.lists(
    st.lists(st.builds(Heard, few, times, times, st.just(0), st.just(0.5)), max_size=7), max_size=5
)
finals = st.lists(
    st.builds(
        lambda texts, timed: segment(" ".join(texts), timed=timed),
        st.lists(few, max_size=5),
        st.booleans(),
    ),
    max_size=3,
)


@settings(max_examples=50)
@given(hypotheses, finals, st.integers(1, 3), st.floats(0, 20), st.booleans())
def test_committed_text_only_grows_and_the_settled_text_begins_with_it(
    given_hypotheses: list[list[Heard]],
    final: list[Segment],
    needed: int,
    edge: float,
    seam: bool,
) -> None:
    agreement = Agreement(needed, 1.0)
    states = [""]
    for hypothesis in given_hypotheses:
        new = agreement.update(hypothesis, edge)
        assert agreement.committed == " ".join(filter(None, [states[-1], new]))
        states.append(agreement.committed)
    assert all(b.split()[: len(a.split())] == a.split() for a, b in pairwise(states))
    found = agreement.settle(final, seam=seam)
    carried = [word.text for word in found.carried]
    assert seam or not carried
    whole = [*found.text.split(), *carried]
    committed = states[-1].split()
    assert whole[: len(committed)] == committed
    assert " ".join(s.text for s in found.segments) == found.text


@settings(max_examples=50)
@given(hypotheses)
def test_committed_and_draft_are_never_more_than_both_hypotheses_have(
    given_hypotheses: list[list[Heard]],
) -> None:
    """What is shown is what stands, then the end of the last hypothesis."""
    agreement = Agreement(2, 0.0)
    for hypothesis in given_hypotheses:
        agreement.update(hypothesis, 20.0)
        draft = agreement.draft.split()
        texts = [word.text for word in hypothesis]
        assert texts[len(texts) - len(draft) :] == draft
