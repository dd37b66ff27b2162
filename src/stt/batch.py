"""Many recordings at once: while one is recognised the next are read, and the last word of one is
not waited for to begin another."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from stt.engine.gathering import GatheringRecognizer
from stt.errors import SttError
from stt.pipeline import Step
from stt.transcriber import Transcriber, recognizing_pool
from stt.transcript import Transcript

Source = str | Path
OnStep = Callable[[Source, Step, float | None], None]
"""(recording, step, its seconds where known): called from several threads."""


class _StoppedError(Exception):
    """Nobody wants the rest."""


def transcribe_many(
    transcriber: Transcriber, sources: Iterable[Source], on_step: OnStep | None = None
) -> Iterator[Transcript | SttError]:
    """Transcribe recordings, one more at a time than the recogniser takes utterances.

    Where the model does not run on the CPU, utterances of all of them share batches.

    Args:
        transcriber: the loaded model.
        sources: paths; taken one by one as they are begun.
        on_step: called as recordings proceed.

    Yields:
        For each source, in their order, its transcript or what is wrong with it.
    """
    stopped = threading.Event()

    def one(source: Source) -> Transcript | SttError:
        def step_taken(step: Step, duration: float | None) -> None:
            if stopped.is_set():
                raise _StoppedError
            if on_step:
                on_step(source, step, duration)

        try:
            return shared.transcribe(source, on_step=step_taken)
        except SttError as error:
            return error

    recognizer = transcriber.recognizer
    if recognizer.provider != "cpu":
        recognizer = GatheringRecognizer(recognizer, transcriber.cutting.batch_size)
    lanes = recognizer.streams + 1
    under_way: deque[Future[Transcript | SttError]] = deque()
    with ExitStack() as stack:
        pool = stack.enter_context(recognizing_pool(recognizer))
        shared = replace(transcriber, recognizer=recognizer, pool=pool)
        readers = stack.enter_context(ThreadPoolExecutor(lanes, "recording"))
        stack.callback(stopped.set)  # before the threads are waited for
        for source in sources:
            under_way.append(readers.submit(one, source))
            if len(under_way) > lanes:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
