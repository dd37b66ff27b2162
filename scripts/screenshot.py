"""Run a command in a terminal of its own and save what is on its screen as SVG.

usage: python scripts/screenshot.py OUT.svg [--columns N] [--title TEXT] -- COMMAND...

The picture in the README is made by this. Needs the dependency group `docs` (pyte emulates the
terminal, rich draws it) and a POSIX system.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import shlex
import sys
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.text import Text

from recordings import group

with group("docs"):
    import pyte

LINES = 200


def screen_of(command: list[str], columns: int) -> list[Text]:
    """Return the lines left on the screen when the command has ended."""
    screen = pyte.Screen(columns, LINES)
    stream = pyte.ByteStream(screen)
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(COLUMNS=str(columns), LINES="40", TERM="xterm-256color")
        os.execvp(command[0], command)
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # how Linux says that the other end was closed
            break
        if not data:
            break
        stream.feed(data)
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(f"the command ended with {os.waitstatus_to_exitcode(status)}")
    lines = [line_text(screen, row, columns) for row in range(screen.cursor.y + 1)]
    while lines and not lines[-1].plain.strip():
        lines.pop()
    return lines


def line_text(screen: pyte.Screen, row: int, columns: int) -> Text:
    """One screen line with its colours."""
    text = Text()
    cells = [screen.buffer[row][column] for column in range(columns)]
    for style, run in groupby(cells, key=_style):
        text.append("".join(cell.data for cell in run), style)
    text.rstrip()
    return text


def _style(cell: pyte.screens.Char) -> str:
    colour = "" if cell.fg == "default" else cell.fg.replace("brown", "yellow")
    return f"{'bold ' * cell.bold}{'italic ' * cell.italics}{colour}".strip()


def main() -> None:
    """Run and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--title", default="stt")
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=args.columns, file=nowhere)
        console.print(Text("$ " + shlex.join(args.command), style="bold"))
        for line in screen_of(args.command, args.columns):
            console.print(line, no_wrap=True)
        drawn = console.export_svg(title=args.title)
    # rich links its font from a content network: a picture should fetch nothing
    args.out.write_text(re.sub(r"\s*@font-face {.*?}", "", drawn, flags=re.DOTALL), "utf-8")


if __name__ == "__main__":
    main()
