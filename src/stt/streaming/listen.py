"""`stt.live`: the microphone as an iterator of events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stt.audio.microphone import Microphone
from stt.events import Event
from stt.streaming.stream import live
from stt.transcriber import ModelTranscriber, Transcriber


class Listening:
    """The events of one microphone; iterate over it once. Made by `stt.live`."""

    def __init__(
        self, loaded: ModelTranscriber, device: str | int | None, record: Path | None
    ) -> None:
        self.transcriber = Transcriber(loaded)
        """The loaded model, with its name and the precision chosen."""
        self._loaded = loaded
        self._microphone = Microphone(device, keep=record)

    def __iter__(self) -> Iterator[Event]:
        """Open the microphone and yield what is heard, until `stop`. Leaving the loop closes it.

        Raises:
            AudioError: the microphone cannot be opened.
            ModelError: the model gives nothing usable, and no FP32 takes over.
            OutputError: the recording cannot be made or kept.
        """
        with self._microphone as microphone:
            try:
                yield from live(microphone.blocks(), self._loaded, microphone.rate)
            except GeneratorExit:  # the caller has heard enough: no failure, so nothing is kept
                return

    def stop(self) -> None:
        """Hear no more: what is being said is finished, then the events end. For any thread."""
        self._microphone.stop()
