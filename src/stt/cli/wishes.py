"""What one call of `stt live` asks for, and what of it cannot be done."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from stt.cli import streams
from stt.errors import OutputError, UsageError

SAVED_AS = ("txt", "srt", "vtt", "ass", "json", "tsv")


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options of one call."""

    device: str | None
    input_: Path | None
    fast: bool
    save: Path | None
    record: Path | None
    duration: float | None
    push_to_talk: bool
    plain: bool
    type_to: str | None
    command: str | None
    quiet: bool

    @property
    def lines(self) -> bool:
        """Whether text goes out line by line rather than on a screen."""
        return self.plain or self.type_to is not None or not sys.stdout.isatty()


def check(wishes: Wishes) -> None:
    """Refuse before anything is heard what could not be done after it."""
    from stt.cli.target import check_folder

    _check_input(wishes)
    if streams.is_closed() and wishes.save is None and wishes.command is None:
        raise OutputError("standard output is closed, so no text can be shown; add --save FILE")
    streams.drop_if_closed()
    if wishes.push_to_talk and (sys.stdin is None or not sys.stdin.isatty()):
        raise UsageError("--push-to-talk needs a terminal to press keys in")
    if wishes.save is None:
        return
    if wishes.save.suffix.lower().removeprefix(".") not in SAVED_AS:
        raise UsageError(f"{wishes.save}: --save takes a name that ends in {', '.join(SAVED_AS)}")
    if wishes.save.exists():
        raise OutputError(f"{wishes.save}: is there already; give another name, or move it away")
    if not wishes.save.parent.is_dir():
        raise OutputError(
            f"{wishes.save}: the folder {wishes.save.parent} does not exist; make it first"
        )
    check_folder(wishes.save.parent, "--save")


def _check_input(wishes: Wishes) -> None:
    """Refuse what does not go with a recording, or without one, and a recording that is none."""
    if wishes.input_ is None:
        if wishes.fast:
            raise UsageError("--fast goes with a recording: add --input FILE")
        return
    for option, given in {
        "--device": wishes.device is not None,
        "--record": wishes.record is not None,
        "--push-to-talk with --fast": wishes.push_to_talk and wishes.fast,
    }.items():
        if given:
            raise UsageError(f"{option} does not go with --input FILE, which is the sound; drop it")
    from stt.audio.files import STDIN, check_there

    if str(wishes.input_) == STDIN:
        raise UsageError(
            "--input takes a file that ends; for sound that goes on make a virtual microphone, see "
            "docs/live.md"
        )
    check_there(wishes.input_)
