"""One recording's recogniser: the chosen precision, and what takes over where that is of no use.

A card can fail, or have too little memory for a single utterance: that batch runs on the CPU.

FP16 passes its proof and may still overflow on audio that the proof did not have. It shows in two
ways: NaN or infinity in what the model returns, and no word at all where speech was clear. Then the
recording goes on in FP32.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stt.audio.utterances import Utterance
from stt.engine.recognizer import Recognizer
from stt.errors import ModelError, NonFiniteOutput, SttError
from stt.transcript import Choice, Segment
from stt.types import SAMPLE_RATE

CLEAR_SPEECH_S = 1.5
"""Seconds of clear speech in an utterance that must give a word."""


@dataclass(frozen=True, slots=True)
class Fallback:
    """A recording left its precision for FP32."""

    at: float
    """Seconds from the start of the recording: the utterance that gave nothing usable."""
    left: str
    """The precision that gave nothing usable."""
    why: str
    """E.g. NaN in the encoder output."""
    provider: str
    """Short name of the provider that runs FP32."""

    def __str__(self) -> str:
        """Return one line for the user."""
        return f"{self._message}; this recording goes on in fp32"

    @property
    def choice(self) -> Choice:
        """What runs from there on, and why."""
        return Choice("fp32", self.provider, f"{self._message}; fp32 from there on")

    @property
    def _message(self) -> str:
        return f"{self.left} gave nothing usable at {clock(self.at)} ({self.why})"


class Reserve:
    """A recogniser in reserve, FP32 or the CPU: loaded when it is first needed, at most once."""

    def __init__(
        self, load: Callable[[], Recognizer] | None, missing: str = "", name: str = "fp32"
    ) -> None:
        """`load` loads it, or raises SttError; None where there is none: `missing` says why."""
        self._name, self._lock = name, threading.Lock()
        self._load = load
        self._recognizer: Recognizer | None = None
        self.missing = missing
        """Why there is none, once that is known."""

    def get(self) -> Recognizer | None:
        """Return the recogniser, or None where there is none or it does not load."""
        with self._lock:
            if self._load is not None:
                try:
                    self._recognizer = self._load()
                except SttError as error:
                    self.missing = f"{self._name} cannot take over: {error}"
                self._load = None
            return self._recognizer


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a recogniser made of a batch, before anybody has judged it."""

    by: Recognizer
    found: list[list[Segment]] | NonFiniteOutput
    failure: str = ""
    """Of the card, in whose place the CPU ran; empty where it did not fail."""


class GuardedRecognizer:
    """Recognises one recording, batch after batch. Make one for each recording.

    `attempt` may be called from several threads at once, `settle` from one and in the recording's
    order: so a recording reads the same however many batches are under way.
    """

    def __init__(
        self,
        chosen: Recognizer,
        precision: str,
        reserve: Reserve | None = None,
        spare: Reserve | None = None,
    ) -> None:
        """Begin with `chosen`, which runs `precision`; a `reserve` belongs to other than fp32.

        `spare` is the same precision on the CPU; it belongs to other providers.
        """
        self._running = chosen
        self._precision = precision
        self._reserve, self._spare = reserve, spare
        self._on_cpu, self._failure = 0, ""  # samples that the CPU had to take, and why
        self._empty = 0  # utterances of clear speech without a word, so far
        self.fallback: Fallback | None = None
        """Set once the recording goes on in FP32."""

    @property
    def notes(self) -> list[str]:
        """What ran elsewhere than it should, and why."""
        if not self._on_cpu:
            return []
        seconds = self._on_cpu / SAMPLE_RATE
        return [
            f"{seconds:.1f} s ran on the CPU: {self._running.provider} failed ({self._failure})"
        ]

    @property
    def streams(self) -> int:
        """How many batches it recognises at a time, each in a thread of the caller's."""
        return self._running.streams

    @property
    def tells_words(self) -> bool:
        """Whether it tells when each word was said."""
        return self._running.tells_words

    def recognize(self, batch: Sequence[Utterance]) -> list[list[Segment]]:
        """Return for each utterance its segments, in seconds from the utterance's own start.

        Raises:
            ModelError: the output cannot be read, and FP32 cannot take over or fares no better.
        """
        return self.settle(batch, self.attempt(batch))

    def attempt(self, batch: Sequence[Utterance]) -> Attempt:
        """Recognise, and do nothing about what is not usable."""
        running = self._running
        try:
            return Attempt(running, _recognized(running, batch))
        except NonFiniteOutput as error:
            return Attempt(running, error)
        except ModelError as error:
            spare = None if self._spare is None else self._spare.get()
            if spare is None:
                raise
            why = " ".join(str(error.__cause__ or error).split())[:160]
            try:
                return Attempt(running, _recognized(spare, batch), why)
            except NonFiniteOutput as other:
                return Attempt(running, other, why)

    def settle(self, batch: Sequence[Utterance], attempt: Attempt) -> list[list[Segment]]:
        """Judge an attempt; see `recognize`.

        One begun before the recording left its precision is made again.
        """
        if attempt.by is not self._running:
            attempt = self.attempt(batch)
        if attempt.failure:
            self._failure = self._failure or attempt.failure
            self._on_cpu += sum(len(utterance.samples) for utterance in batch)
        if isinstance(attempt.found, NonFiniteOutput):
            self._go_on_in_fp32(batch[attempt.found.index], attempt.found)
            return _recognized(self._running, batch)
        if self._reserve is None or self.fallback:
            return attempt.found
        return [
            segments or self._second_opinion(utterance, self._reserve)
            for utterance, segments in zip(batch, attempt.found, strict=True)
        ]

    def repeat(
        self, batch: Sequence[Utterance], found: Sequence[list[Segment]], fallback: Fallback | None
    ) -> None:
        """Go on as after a batch that was settled so in an earlier run.

        Raises:
            ModelError: the recording went on in FP32 then, and that is not there any more.
        """
        if self._reserve is None or self.fallback:
            return
        spoken = [u.clear_speech_s >= CLEAR_SPEECH_S for u in batch]
        self._empty += sum(clear and not said for clear, said in zip(spoken, found, strict=True))
        if fallback is not None:
            full = self._reserve.get()
            if full is None:
                raise ModelError(f"{fallback}, and {self._reserve.missing}; redo it with --force")
            self.fallback, self._running = fallback, full

    def _go_on_in_fp32(self, utterance: Utterance, error: NonFiniteOutput) -> None:
        if self._reserve is None or self.fallback:  # it is fp32 that collapsed
            raise error
        full = self._reserve.get()
        if full is None:
            raise ModelError(
                f"{self._precision} gave nothing usable at {clock(_start(utterance))} "
                f"({error.what}), and {self._reserve.missing}; run `stt setup` for this model again"
            ) from error
        self._switch(full, utterance, error.what)

    def _switch(self, full: Recognizer, utterance: Utterance, why: str) -> None:
        self.fallback = Fallback(_start(utterance), self._precision, why, full.provider)
        self._running = full

    def _second_opinion(self, utterance: Utterance, reserve: Reserve) -> list[Segment]:
        """Recognise in FP32 an utterance that gave no word although its speech is clear.

        Where FP32 hears none either, none was said, and the chosen precision goes on. From then on
        only the 2nd, 4th, 8th ... such utterance is asked about: hours of singing must not take
        twice the time, and a precision that collapses late is found out all the same.
        """
        if utterance.clear_speech_s < CLEAR_SPEECH_S:
            return []
        if self.fallback is None:  # else: FP32 heard what another of this batch said
            self._empty += 1
            if self._empty & (self._empty - 1):
                return []
        full = reserve.get()
        if full is None:
            return []
        try:
            (segments,) = _recognized(full, [utterance])
        except NonFiniteOutput:
            return []
        if segments and self.fallback is None:
            self._switch(full, utterance, "no word where speech was clear")
        return segments


def _recognized(by: Recognizer, batch: Sequence[Utterance]) -> list[list[Segment]]:
    speech = [[probability for probability, _ in one.heard] for one in batch]
    return by.recognize([one.samples for one in batch], speech)


def _start(utterance: Utterance) -> float:
    return utterance.start / SAMPLE_RATE


def clock(seconds: float) -> str:
    """Return seconds as 0:07 or 72:40."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
