"""One live session: blocks and results in, events out. It has no thread and no clock of its own.

Whoever drives it (`stt.streaming.stream` in real time, `replay` in simulated) calls `feed` with
audio, asks `next_job` whenever the recogniser is free, and hands the result to `done`. Finals
come first and none is dropped; what else the recogniser has time for goes into drafts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np

from stt.audio.conditioning import Conditioner, levelled
from stt.audio.segmenter import MIN_SPEECH
from stt.audio.utterances import SpeechProbabilities, Utterance
from stt.audio.vad import FRAME, Gain, levels
from stt.events import Committed, Draft, Event, Final, State
from stt.streaming.agreement import Agreement, heard
from stt.streaming.endpoint import TAIL, Ended, Endpointer
from stt.streaming.jobs import Job, Pace
from stt.streaming.meter import Meter
from stt.streaming.utterances import Speaking, Spoken, Waiting
from stt.text.hallucination import Evidence, doubt, without_invented
from stt.transcript import Segment, shifted
from stt.types import SAMPLE_RATE, Samples

FRAME_S = FRAME / SAMPLE_RATE
_StateName: TypeAlias = Literal["listening", "speech", "thinking"]
_IDLE_FRAMES = 8
"""Frames (256 ms) worked on together while nobody speaks: waking up is what costs then, and the
first draft is due later than that."""
_DEAF_S = 0.5
"""Seconds that a block may wait to be heard before it counts as lag."""
_HOLD = 3
"""Frames of silence from which no partial begins: if this is the end, the recogniser is free."""
_GIVE_UP = 5
"""Frames of silence (160 ms) that are a pause: what is being recognised is soon heard again."""


class LiveSession:
    """See the module. Not thread-safe: the driver holds a lock around each call.

    The driver's clock is in seconds; only differences are used.
    """

    def __init__(self, speech: SpeechProbabilities, pace: Pace | None = None) -> None:
        """`speech` gives the probability of speech of consecutive float32 frames [n, 512]."""
        self.pace = pace or Pace()
        self._speech, self._gain, self._conditioner = speech, Gain(), Conditioner()
        max_frames = int(self.pace.window_s * SAMPLE_RATE) // FRAME
        self._endpointer = Endpointer(max_frames, self.pace.threshold, self.pace.patience_s)
        self._audio = np.zeros(0, np.float32)
        self._base = self._heard = 0  # samples before _audio[0], and taken in
        self._skipped = 0.0  # seconds of the stream that never came in
        self._meter = Meter()
        self._state: _StateName = "listening"
        self.utterances = 0
        """How many have ended; the next one's number is one more."""
        self.ended_s = 0.0
        """Where the last of them ended, in seconds."""
        self._spoken: Spoken | None = None
        self._waiting: deque[Waiting] = deque()
        self._running: Job | None = None
        self._trial: tuple[tuple[int, int], list[Segment]] | None = None
        self._now = 0.0  # the driver's clock at the last call
        self._heard_at = 0.0  # the same when the last of the _heard samples was captured

    @property
    def idle(self) -> bool:
        """Whether nothing waits for its final text."""
        return not self._waiting

    @property
    def resting(self) -> bool:
        """Whether nobody speaks and nothing waits: there is no job, nor will be before a block."""
        return self._spoken is None and not self._waiting

    @property
    def waiting(self) -> int:
        """Utterances that have ended and wait for their final text."""
        return len(self._waiting)

    @property
    def speaking(self) -> Speaking | None:
        """The utterance being spoken; None: nobody speaks."""
        endpointer, spoken = self._endpointer, self._spoken
        if spoken is None or endpointer.start is None:
            return None
        start = endpointer.start * FRAME_S + self._skipped
        is_speech = spoken.shown or endpointer.is_speech
        return Speaking(spoken.number, start, is_speech, endpointer.goes_on)

    def endpoint(self, threshold: float, patience_s: float | None) -> None:
        """Go on with another threshold and patience; see `Pace`."""
        self.pace = replace(self.pace, threshold=threshold, patience_s=patience_s)
        self._endpointer.follow(threshold, patience_s)

    @property
    def in_vain(self) -> bool:
        """Whether the job running is a partial that a pause has made useless. For any thread.

        Never before an utterance's first draft: that is what a speaker waits for.
        """
        job, spoken = self._running, self._spoken
        shown = job is not None and job.kind == "partial" and spoken is not None and spoken.shown
        return shown and self._endpointer.silence >= _GIVE_UP

    # --- audio in ---------------------------------------------------------------------------

    def feed(
        self, block: Samples, now: float, captured: float | None = None, *, last: bool = False
    ) -> list[Event]:
        """Take the next samples, float32 [n] mono at 16 kHz; after the `last` comes no other.

        `captured` is when the last of them was, on the driver's clock; None: just now.
        """
        at_once = 1 if last or self._spoken else _IDLE_FRAMES
        self._audio = np.concatenate([self._audio, block])
        self._heard += len(block)
        self._now, self._heard_at = now, now if captured is None else captured
        fed = self._endpointer.now * FRAME
        whole = (self._heard - fed) // FRAME
        if whole < at_once:
            return []
        begin = fed - self._base
        fresh = self._audio[begin : begin + whole * FRAME]
        raw = fresh.copy().reshape(whole, FRAME)
        heard = self._conditioner.push(raw)
        fresh[:] = heard.model.reshape(-1)
        events = self._push(raw, heard.vad)
        keep = self._endpointer.oldest * FRAME
        self._audio, self._base = self._audio[keep - self._base :], keep
        return events

    def skip(self, seconds: float) -> None:
        """Account for a stretch of the stream that was lost; nobody may be speaking."""
        self._skipped += seconds

    def flush(self, now: float) -> list[Event]:
        """End what is being said here, and only that: the stream may go on, or end."""
        rest = -self._heard % FRAME
        events = self.feed(np.zeros(rest, np.float32), now, last=True)
        self._heard -= rest
        if ended := self._endpointer.finish():
            self._end(ended)
        events += self._answer_trial(now) + self._tell_state()
        self._heard += rest  # what follows lies behind the zeros that filled the frame
        self._skipped -= rest / SAMPLE_RATE
        return events

    def _push(self, raw: Samples, heard: Samples) -> list[Event]:
        """Take frames as they were captured, for the meter, and as the VAD is to hear them."""
        events: list[Event] = []
        endpointer = self._endpointer
        spoken, loud, captured = self._speech(self._gain(heard)), levels(heard), levels(raw)
        for frame, rms, probability, level in zip(raw, captured, spoken, loud, strict=True):
            if ended := endpointer.push(float(probability), float(level)):
                self._end(ended)
            if endpointer.start is not None and self._spoken is None:
                due = self._wall(endpointer.first_speech) + self.pace.first_s
                agreement = Agreement(self.pace.needed, self.pace.margin_s)
                self._spoken = Spoken(self.utterances + 1, agreement, due)
            if metered := self._meter.push(frame, float(rms), float(probability), self._metered):
                events.append(metered)
        return events + self._answer_trial(self._now) + self._tell_state()

    def _end(self, ended: Ended) -> None:
        """Queue an utterance, but for a click of which nothing was shown."""
        spoken, self._spoken = self._spoken, None
        assert spoken is not None
        if ended.click:
            if not (spoken.shown or spoken.agreement.committed):
                return
            self._endpointer.claim(ended)
        self.utterances += 1
        self.ended_s = ended.end * FRAME_S + self._skipped
        utterance = self._utterance(ended.start, ended.end, ended.clear, ended.heard)
        wall = self._wall(ended.endpoint)
        self._waiting.append(
            Waiting(spoken.number, ended, utterance, spoken.agreement, wall, self._skipped)
        )

    def _metered(self) -> tuple[float, float]:
        """Where in the stream, and how far behind."""
        return self._endpointer.now * FRAME_S + self._skipped, self._lag_s()

    def _wall(self, frame: int) -> float:
        """Return the driver's clock when a frame began."""
        return self._heard_at - (self._heard - frame * FRAME) / SAMPLE_RATE

    def _lag_s(self) -> float:
        """How far recognition is behind, or hearing itself where it is that busy."""
        waits = self._now - self._waiting[0].wall if self._waiting else 0.0
        unheard = self._now - self._heard_at
        return max(0.0, waits, unheard if unheard > _DEAF_S else 0.0)

    def _utterance(
        self, start: int, end: int, clear: int, heard: tuple[tuple[float, float], ...]
    ) -> Utterance:
        begin, behind = start * FRAME - self._base, end * FRAME - self._base
        samples = self._audio[begin : min(behind, self._heard - self._base)].copy()
        return Utterance(start * FRAME, levelled(samples), clear * FRAME_S, heard)

    def _tell_state(self) -> list[Event]:
        quiet: _StateName = "thinking" if self._waiting else "listening"
        now: _StateName = "speech" if self._spoken else quiet
        if now == self._state:
            return []
        self._state = now
        return [State(self._heard / SAMPLE_RATE + self._skipped, self._state)]

    # --- work for the recogniser ------------------------------------------------------------

    def next_job(self, now: float) -> Job | None:
        """Return what to recognise next, or None where there is nothing to do yet."""
        if self._running:
            return None
        self._running = self._final(now) or self._try_end(now) or self._partial(now)
        return self._running

    def _final(self, now: float) -> Job | None:
        if not self._waiting:
            return None
        batch = [one.utterance for one in self._waiting][: self.pace.batch_size]
        return Job("final", self._waiting[0].number, tuple(batch), now)

    def _try_end(self, now: float) -> Job | None:
        """Recognise, in a pause, what will be the utterance if the pause is its end."""
        endpointer, spoken = self._endpointer, self._spoken
        if not spoken or endpointer.start is None or endpointer.silence < TAIL:
            return None
        place = (endpointer.start, endpointer.last_speech + 1 + TAIL)
        if spoken.tried == place or endpointer.clear < MIN_SPEECH:
            return None
        spoken.tried = place
        utterance = self._utterance(*place, endpointer.clear, endpointer.heard(place[1]))
        return Job("trial", spoken.number, (utterance,), now)

    def _partial(self, now: float) -> Job | None:
        endpointer, spoken = self._endpointer, self._spoken
        if not spoken or endpointer.start is None or now < spoken.due:
            return None
        if endpointer.silence >= _HOLD or endpointer.clear < MIN_SPEECH:
            return None
        # no clear speech stated: a partial without words is no reason to doubt the precision
        place = endpointer.start, endpointer.now
        utterance = self._utterance(*place, 0, endpointer.heard(endpointer.now))
        return Job("partial", spoken.number, (utterance,), now)

    def given_up(self, job: Job, now: float) -> None:
        """Note that a job ended without a result, for it was `in_vain`."""
        self._running = None
        if self._spoken:
            self._spoken.due = now + self.pace.every_s

    def done(self, job: Job, results: Sequence[Sequence[Segment]], now: float) -> list[Event]:
        """Take the segments of each of a job's utterances, in seconds from its own start."""
        self._running = None
        found = [
            [
                shifted(one, utterance.start / SAMPLE_RATE)
                for one in without_invented(segments, utterance)[0]
            ]
            for utterance, segments in zip(job.utterances, results, strict=True)
        ]
        if job.kind == "final":
            events = [self._settle(segments, now) for segments in found]
            return [*events, *self._answer_trial(now), *self._tell_state()]
        (utterance,), (segments,) = job.utterances, found
        if job.kind == "trial":
            self._trial = ((utterance.start, utterance.end), segments)
        made = self._answer_trial(now)
        if self._spoken and utterance.start == (self._endpointer.start or 0) * FRAME:
            took = now - job.began
            self._spoken.due = job.began + max(self.pace.every_s, took / self.pace.share)
            made += self._redraft(self._spoken, segments, utterance, now)
        return made + self._tell_state()

    def _answer_trial(self, now: float) -> list[Event]:
        """Settle the oldest utterance where a trial has heard exactly it."""
        if not self._waiting or self._trial is None:
            return []
        if self._running and self._running.kind == "final":
            return []
        utterance = self._waiting[0].utterance
        heard_it = self._trial[0] == (utterance.start, utterance.end)
        return [self._settle(self._trial[1], now)] if heard_it else []

    def _redraft(
        self, spoken: Spoken, segments: list[Segment], utterance: Utterance, now: float
    ) -> list[Event]:
        endpointer = self._endpointer
        voiced = endpointer.last_speech + 1 - utterance.start // FRAME
        if doubt(segments, Evidence(endpointer.clear * FRAME_S, voiced * FRAME_S)):
            return []
        edge = utterance.end / SAMPLE_RATE
        agreement, at = spoken.agreement, edge + self._skipped
        new = agreement.update(heard(segments), edge)
        spoken.shown = True
        latency = now - self._wall(self._endpointer.first_speech)
        draft = Draft(at, spoken.number, agreement.committed, agreement.draft, latency)
        return [Committed(at, spoken.number, new), draft] if new else [draft]

    def _settle(self, segments: list[Segment], now: float) -> Final:
        """Make the oldest utterance that waits final."""
        one = self._waiting.popleft()
        ended, skipped, suppressed = one.ended, one.skipped, ""
        voiced = ended.last_speech + 1 - ended.start
        # what is committed of it stands nevertheless
        if doubt(segments, Evidence(ended.clear * FRAME_S, voiced * FRAME_S)):
            suppressed, segments = " ".join(segment.text for segment in segments), []
        behind = self._behind(ended) if ended.seam else None
        settled = one.agreement.settle(segments, seam=behind is not None)
        if behind and settled.carried:
            behind.agreement = Agreement(self.pace.needed, self.pace.margin_s, settled.carried)
        return Final(
            number=one.number,
            start=one.utterance.start / SAMPLE_RATE + skipped,
            end=one.utterance.end / SAMPLE_RATE + skipped,
            speech_end=(ended.last_speech + 1) * FRAME_S + skipped,
            endpoint=ended.endpoint * FRAME_S + skipped,
            segments=tuple(shifted(segment, skipped) for segment in settled.segments),
            text=settled.text,
            latency_s=max(0.0, now - one.wall),
            disagreements=settled.disagreements,
            carried=" ".join(word.text for word in settled.carried),
            seam=ended.seam,
            suppressed=suppressed,
        )

    def _behind(self, ended: Ended) -> Waiting | Spoken | None:
        """Return what goes on behind a seam, if anything does."""
        if self._waiting:
            one = self._waiting[0]
            return one if one.ended.start == ended.end else None
        return self._spoken if self._endpointer.start == ended.end else None
