"""Server-sent events of a transcription under way: OpenAI's, and those of ours that are asked for.

Text that was sent never changes: each delta adds to it, and all of them are the text of `done`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from stt.serve import answers
from stt.serve.asked import Asked
from stt.serve.problems import Problem
from stt.serve.work import Progress
from stt.text.transcript import Transcript, as_json
from stt.transcript import Segment

KEEP_ALIVE = b": still at work\n\n"
"""A comment, so that nobody between takes the connection for dead."""


def event(values: Mapping[str, Any]) -> bytes:
    """Return one event as it is sent."""
    return f"data: {json.dumps(values, ensure_ascii=False)}\n\n".encode()


def error_event(problem: Problem) -> bytes:
    """Return the last event of a stream that fails."""
    return event({"type": "error", "error": problem.error()})


class TranscriptEvents:
    """The events of one recording."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._begun = False  # whether any text was sent

    def of(self, item: Progress | Transcript) -> Iterator[bytes]:
        """Yield what a step of the work, or its end, has to say."""
        if isinstance(item, Transcript):
            yield from self._end(item)
            return
        for segment in item.step.segments:
            if segment.text:
                yield event(self._delta(segment))
            if "stt.segments" in self._asked.include:
                yield event({"type": "stt.segment", "segment": _segment(segment)})
        if "stt.progress" in self._asked.include:
            told = {"heard_s": round(item.step.heard, 3), "duration_s": item.duration}
            yield event({"type": "stt.progress", **told})

    def _delta(self, segment: Segment) -> dict[str, Any]:
        text = f" {segment.text}" if self._begun else segment.text
        told: dict[str, Any] = {"type": "transcript.text.delta", "delta": text}
        if self._asked.logprobs:
            told["logprobs"] = answers.logprobs([segment], begun=self._begun)
        self._begun = True
        return told

    def _end(self, transcript: Transcript) -> Iterator[bytes]:
        if "stt.transcript" in self._asked.include:
            document = json.loads(as_json(transcript))
            yield event({"type": "stt.transcript", "transcript": document})
        told: dict[str, Any] = {"type": "transcript.text.done", "text": transcript.text}
        if self._asked.logprobs:
            told["logprobs"] = answers.logprobs(transcript.segments)
        yield event(
            told | answers.languages(transcript) | {"usage": answers.tokens_usage(transcript)}
        )


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "words": [
            {
                "word": word.text,
                "start": round(word.start, 3),
                "end": round(word.end, 3),
                "probability": round(word.confidence, 4),
            }
            for word in segment.words
        ],
    }
