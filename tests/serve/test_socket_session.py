"""Items of a session: a VAD and a recogniser that follow a script, in the real driver."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import groupby
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stt.errors import ModelError
from stt.serve import socket_session
from stt.serve.socket_session import SocketSession, Trouble
from stt.serve.turns import Began, Completed, Ended, Endpointing, Failed, Said
from stt.streaming.jobs import Pace
from support.live_fakes import Ears, Reader, pause, sound, spoken

BY_CLIENT = Endpointing(by_client=True)
BY_SILENCE = Endpointing()


@pytest.fixture(autouse=True, scope="module")
def ears():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket_session, "SpeechProbability", Ears)
        yield


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(2) as threads:
        yield threads


class Lender:
    """An engine that lends a `Reader`, at once; `broken`: words that it cannot take."""

    fallback = None

    def __init__(self, pool, broken: tuple[str, ...] = (), loads: bool = True) -> None:
        self._pool, self._broken, self._loads = pool, broken, loads
        self.reader, self.lent = Reader(), 0

    def load(self):
        if not self._loads:
            raise ModelError("no model")
        return SimpleNamespace(pace=Pace(), english_only=False)

    @contextmanager
    def lent_live(self, session):
        self.lent += 1
        try:
            yield self
        finally:
            self.lent -= 1

    def begin(self, batch) -> Future:
        return self._pool.submit(self._read, batch)

    def _read(self, batch):
        found = self.reader.recognize(batch)
        words = {word.text for one in found for segment in one for word in segment.words}
        if words & set(self._broken):
            raise ModelError("the model gives NaN")
        return found


def happenings(lender, pool, endpointing, actions) -> list:
    """`actions`: frames to hear, the name of a method to call, or another endpointing."""
    told: list = []

    async def talk():
        async with SocketSession(lender, pool, told.append, endpointing) as session:
            for action in actions:
                if isinstance(action, str):
                    await getattr(session, action)()
                elif isinstance(action, Endpointing):
                    await session.endpoint(action)
                else:
                    await session.append(sound(action), 16_000)
            await asyncio.wait_for(session.finish(), 20)

    asyncio.run(talk())
    assert not lender.lent
    return told


def checked(told, *, by_client: bool) -> list[str]:
    """Texts of the items, which come whole and in order; of one that was cleared comes no end."""
    of_items = [one for one in told if isinstance(one, Began | Said | Ended | Completed | Failed)]
    cleared = {one.item for one in of_items} - {
        one.item for one in of_items if isinstance(one, Ended)
    }
    items = sorted({one.item for one in of_items} - cleared)
    for item in items:
        own = [one for one in of_items if one.item == item]
        assert isinstance(own[-1], Completed)
        assert "".join(one.text for one in own if isinstance(one, Said)) == own[-1].text
        assert sum(isinstance(one, Ended) for one in own) == 1
        assert isinstance(own[0], Began) != by_client
        assert own[-1].start <= own[-1].end
    done = [one for one in of_items if isinstance(one, Completed)]
    assert [one.item for one in done] == items
    assert [one.item for one in of_items if isinstance(one, Ended)] == items
    return [one.text for one in done]


def once(text: str) -> list[int]:
    """The words; one that was cut in two, because an utterance was long, is one."""
    return [int(word) for word, _ in groupby(text.split())]


def words(first: int, count: int) -> list[int]:
    return [frame + first - 1 for frame in spoken(count)]


LENGTHS = st.one_of(st.integers(1, 8), st.integers(40, 60))
"""Words of a sentence: a few, or more than an utterance takes (3.2 words a second for 15 s)."""


@settings(max_examples=8)
@given(st.lists(st.tuples(LENGTHS, st.floats(0.1, 1.5)), min_size=1, max_size=4))
def test_where_silence_ends_items_no_word_is_lost_and_none_changes(pool, sentences) -> None:
    actions, said = [], 0
    for count, silence_s in sentences:
        actions += [words(said + 1, count), pause(silence_s)]
        said += count
    texts = checked(happenings(Lender(pool), pool, BY_SILENCE, actions), by_client=False)
    assert once(" ".join(texts)) == list(range(1, said + 1))
    assert len(texts) <= len(sentences)
    assert len(texts) >= 1 + sum(silence_s > 0.9 for _, silence_s in sentences[:-1])


STEPS = st.one_of(
    st.tuples(st.just("say"), LENGTHS),
    st.tuples(st.just("pause"), st.floats(0.1, 1.5)),
    st.sampled_from(["commit", "clear"]).map(lambda name: (name, 0)),
)


@settings(max_examples=15)
@given(st.lists(STEPS, max_size=8))
def test_where_the_client_commits_items_are_what_it_sent(pool, steps) -> None:
    actions: list = []
    expected: list[list[int]] = []
    unsent: list[int] = []
    number = 1
    for name, value in steps:
        if name == "say":
            actions.append(words(number, value))
            unsent += range(number, number + value)
            number += value
        elif name == "pause":
            actions.append(pause(value))
        elif name == "clear":
            actions.append("clear")
            unsent = []
        else:
            actions.append("commit")
            expected.append(unsent)
            unsent = []
    told = happenings(Lender(pool), pool, BY_CLIENT, actions)
    texts = [once(text) for text in checked(told, by_client=True)]
    assert texts[: len(expected)] == expected
    assert [text for text in texts[len(expected) :] if text] == [unsent] * bool(unsent)


def test_a_commit_ends_what_silence_would_have_ended_later(pool) -> None:
    told = happenings(
        Lender(pool), pool, BY_SILENCE, [words(1, 4), "commit", words(5, 3), pause(1)]
    )
    assert checked(told, by_client=False) == ["1 2 3 4", "5 6 7"]
    by_client, by_silence = (one for one in told if isinstance(one, Ended))
    assert by_client.at is None
    assert by_silence.at == pytest.approx(7 * 0.32 + 0.32, abs=0.04)


def test_a_commit_of_silence_is_an_empty_item(pool) -> None:
    told = happenings(Lender(pool), pool, BY_CLIENT, [pause(1), "commit"])
    assert checked(told, by_client=True) == [""]


def test_who_ends_items_may_change_between_two(pool) -> None:
    first = [words(1, 3), BY_CLIENT, words(4, 2), pause(1), words(6, 1), "commit"]
    then = [BY_SILENCE, words(7, 2), pause(1), words(9, 2)]
    told = happenings(Lender(pool), pool, BY_SILENCE, first + then)
    texts = [one.text for one in told if isinstance(one, Completed)]
    assert texts == ["1 2 3", "4 5 6", "7 8", "9 10"]


def test_patience_is_the_clients_where_it_says_so(pool) -> None:
    actions = [words(1, 3), pause(0.9), words(4, 3), pause(2.5)]
    for patience_s, items in ((None, 2), (0.35, 2), (1.5, 1)):
        asked = Endpointing(patience_s=patience_s)
        assert (
            len(checked(happenings(Lender(pool), pool, asked, actions), by_client=False)) == items
        )


def test_what_cannot_be_recognised_fails_alone(pool) -> None:
    """Also where it waits with others, to be recognised together."""
    lender = Lender(pool, broken=("5",))
    actions = [part for n in range(1, 9) for part in (words(n, 1), pause(1))]
    told = happenings(lender, pool, BY_SILENCE, actions)
    (failed,) = (one for one in told if isinstance(one, Failed))
    assert str(failed.error) == "the model gives NaN"
    texts = [one.text for one in told if isinstance(one, Completed)]
    assert texts == ["1", "2", "3", "4", "6", "7", "8"]


def test_without_a_model_it_is_told_and_every_item_fails(pool) -> None:
    lender = Lender(pool, loads=False)
    told = happenings(lender, pool, BY_SILENCE, [words(1, 2), pause(1), words(3, 2), pause(1)])
    (trouble,) = (one for one in told if isinstance(one, Trouble))
    assert str(trouble.error) == "no model"
    assert not trouble.is_end
    assert sum(isinstance(one, Failed) for one in told) == 2
    assert not any(isinstance(one, Completed) for one in told)


def test_a_bug_ends_the_session_and_is_told(pool, monkeypatch) -> None:
    def broken(frames):
        raise ZeroDivisionError

    monkeypatch.setattr(socket_session, "SpeechProbability", lambda: broken)
    told = happenings(Lender(pool), pool, BY_SILENCE, [words(1, 2)])
    (trouble,) = (one for one in told if isinstance(one, Trouble))
    assert trouble.is_end


def test_what_comes_faster_than_it_is_heard_is_kept_and_not_in_memory(pool, monkeypatch) -> None:
    monkeypatch.setattr(socket_session, "MOST_IN_MEMORY", 50_000)

    async def talk():
        told: list = []
        most = unheard = 0
        async with SocketSession(Lender(pool), pool, told.append, BY_CLIENT) as session:
            for number in range(1, 51):
                await session.append(sound(words(number, 1), pause(1)), 16_000)
                most = max(most, session._inputs.in_memory)
                unheard = max(unheard, session._inputs.samples)
            await session.commit()
            await session.finish()
        return told, most, unheard

    told, most, unheard = asyncio.run(talk())
    assert [once(text) for text in checked(told, by_client=True)] == [list(range(1, 51))]
    assert most <= 50_000 < unheard


def test_the_model_is_given_back_while_nobody_speaks(pool, monkeypatch) -> None:
    monkeypatch.setattr(socket_session, "_RELEASE_S", 0.05)

    async def talk():
        lender, told = Lender(pool), []
        async with SocketSession(lender, pool, told.append, BY_SILENCE) as session:
            for first in (1, 4):
                await session.append(sound(words(first, 3), pause(1)), 16_000)
                assert lender.lent <= 1
                await asyncio.sleep(0.25)
                assert lender.lent == 0
        return told

    assert checked(asyncio.run(talk()), by_client=False) == ["1 2 3", "4 5 6"]
