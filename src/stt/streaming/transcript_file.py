"""The transcript of a live session, as far as it is final; kept in a file as it grows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stt.errors import OutputError
from stt.events import Event, Final
from stt.system.files import write_text
from stt.text.transcript import Transcript
from stt.transcript import DEFAULT_STYLE, Choice, Segment, SubtitleStyle


class TranscriptFile:
    """Collects the segments of finals, and writes the file anew after each."""

    def __init__(
        self,
        source: str,
        model: str,
        choice: Choice,
        *,
        save: Path | None,
        note: Callable[[str], None],
        style: SubtitleStyle = DEFAULT_STYLE,
        language: str | None = None,
        date: str | None = None,
    ) -> None:
        """`save`: a name that ends in a format's; `note` is told when it cannot be written.

        `language` and `date`: those of the Transcript.
        """
        self._language, self._date = language, date
        self._source, self._model, self._choice = source, model, choice
        self._save, self._note, self._style = save, note, style
        self._segments: list[Segment] = []
        self.duration = 0.0
        """Seconds of audio so far."""
        self.saved = True
        """Whether the file holds all that was said; so it is where none is wanted."""

    def take(self, event: Event) -> None:
        """Add an utterance."""
        if isinstance(event, Final):
            self._segments += event.segments
            self.duration = max(self.duration, event.end)
            if event.text:
                self.write()

    def write(self) -> None:
        """Write all so far; a failure is told, and the session goes on: the text can be seen."""
        if self._save is None:
            return
        form = self._save.suffix.lower().removeprefix(".")
        try:
            write_text(self._save, self.transcript().to(form, self._style))
        except OutputError as error:
            if self.saved:
                self._note(str(error))
            self.saved = False
        else:
            self.saved = True

    def transcript(self) -> Transcript:
        """Return all so far; `elapsed` is the audio's length, for it came at its own speed."""
        return Transcript(
            self._source,
            self.duration,
            tuple(self._segments),
            self._model,
            self._choice,
            self.duration,
            language=self._language,
            date=self._date,
        )
