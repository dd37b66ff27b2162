"""Record what a command shows in a terminal of its own, as it changes, into one SVG that moves.

usage: python scripts/record_screen.py OUT.svg [--columns N] [--rows N] [--stop-after S] -- CMD...

Every frame is the real screen at that moment, at most ten a second. After `--stop-after` seconds
the command gets Ctrl-C. The moving picture in the README is made by this, with a microphone of
PulseAudio's into which samples are played. Needs the dependency group `docs` and a POSIX system.
"""

from __future__ import annotations

import argparse
import html
import os
import pty
import select
import shlex
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from recordings import group
from screenshot import line_text

with group("docs"):
    import pyte

FRAME_S = 0.1
HOLD_S = 4.0
"""Seconds the last frame stays before the recording begins anew."""
CELL_W, CELL_H, SIZE, PAD = 7.8, 18, 13, 14
COLOURS = {"cyan": "#56b6c2", "yellow": "#d8a657", "green": "#98c379", "red": "#e06c75"}


@dataclass(frozen=True)
class Frame:
    """A screen and when it was there first."""

    at: float
    lines: tuple[str, ...]
    """SVG of each row."""


def record(command: list[str], columns: int, rows: int, stop_after: float) -> list[Frame]:
    """Run a command and return the screens it showed."""
    screen = pyte.Screen(columns, rows)
    stream = pyte.ByteStream(screen)
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(COLUMNS=str(columns), LINES=str(rows), TERM="xterm-256color")
        os.execvp(command[0], command)
    began, stopped, frames = time.monotonic(), False, list[Frame]()
    while True:
        now = time.monotonic() - began
        if now > stop_after and not stopped:
            stopped = True
            os.kill(child, signal.SIGINT)
        if select.select([terminal], [], [], FRAME_S)[0]:
            try:
                data = os.read(terminal, 65536)
            except OSError:  # how Linux says that the other end was closed
                break
            stream.feed(data)
        if not frames or now - frames[-1].at >= FRAME_S:
            _keep(frames, now, screen, rows, columns)
    _keep(frames, time.monotonic() - began, screen, rows, columns)
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(f"the command ended with {os.waitstatus_to_exitcode(status)}")
    return frames


def _keep(frames: list[Frame], now: float, screen: pyte.Screen, rows: int, columns: int) -> None:
    lines = tuple(_svg(line_text(screen, row, columns)) for row in range(rows))
    if not frames or frames[-1].lines != lines:
        frames.append(Frame(now, lines))


def _svg(line: Text) -> str:
    """One row as tspans; the draft's dimmed italics are not in pyte, which knows no `dim`."""
    spans = []
    for segment in line.divide(
        sorted({0, *(s.start for s in line.spans), *(s.end for s in line.spans)})
    )[1:]:
        style = str(segment.spans[0].style) if segment.spans else ""
        colour = next((value for name, value in COLOURS.items() if name in style), "")
        italic = ' font-style="italic" fill-opacity="0.6"' if "italic" in style else ""
        fill = f' fill="{colour}"' if colour else ""
        text = html.escape(segment.plain).replace(" ", "\u00a0")
        spans.append(f"<tspan{fill}{italic}>{text}</tspan>")
    return "".join(spans)


def drawn(frames: list[Frame], title: str, columns: int, rows: int) -> str:
    """Return one SVG in which the frames follow one another, each as long as it stood."""
    total = frames[-1].at + HOLD_S
    width, height = columns * CELL_W + 2 * PAD, (rows + 1.5) * CELL_H + 2 * PAD
    style, body = [], []
    for number, ((row, line), times) in enumerate(_times(frames, total).items()):
        states = "".join(
            f"{100 * at / total:.2f}%{{visibility:{'visible' if seen else 'hidden'}}}"
            for at, seen in times
        )
        style.append(
            f"@keyframes f{number}{{{states}}}"
            f"#f{number}{{visibility:hidden;animation:f{number} {total:.1f}s step-end infinite}}"
        )
        y = PAD + (row + 2.5) * CELL_H
        body.append(f'<text id="f{number}" x="{PAD}" y="{y:.0f}">{line}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}">'
        f"<style>text{{font:{SIZE}px ui-monospace,Menlo,Consolas,monospace;fill:#dcdfe4;"
        f"white-space:pre}}{''.join(style)}</style>"
        f'<rect width="100%" height="100%" rx="8" fill="#1e2127"/>'
        f'<text x="{PAD}" y="{PAD + CELL_H:.0f}" font-weight="bold">$ {html.escape(title)}</text>'
        f"{''.join(body)}</svg>\n"
    )


def _times(frames: list[Frame], total: float) -> dict[tuple[int, str], list[tuple[float, bool]]]:
    """Return when each line, at its row, appears and vanishes: what stays is drawn once."""
    times: dict[tuple[int, str], list[tuple[float, bool]]] = {}
    shown: set[tuple[int, str]] = set()
    for frame in frames:
        now = {(row, line) for row, line in enumerate(frame.lines) if line}
        for key in sorted(shown ^ now):
            states = times.setdefault(key, [(0.0, False)] if frame.at else [])
            states.append((frame.at, key in now))
        shown = now
    for key in shown:
        times[key].append((total, True))
    return times


def main() -> None:
    """Record and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--columns", type=int, default=92)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--stop-after", type=float, default=1e9)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    frames = record(args.command, args.columns, args.rows, args.stop_after)
    title = shlex.join([Path(args.command[0]).name, *args.command[1:]])
    args.out.write_text(drawn(frames, title, args.columns, args.rows), "utf-8")
    print(f"{len(frames)} frames, {frames[-1].at:.1f} s")


if __name__ == "__main__":
    main()
