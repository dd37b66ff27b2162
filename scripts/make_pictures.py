"""Make the pictures of the README anew: what the program shows today.

usage: python scripts/make_pictures.py     (or `make pictures`)

Each command runs in a folder and with a home of its own, without settings, after the starter has
introduced itself, in a terminal of its own. A still picture is its last screen; a moving one is
every screen it showed, at most ten a second. Take a quiet machine: the pictures tell the speed.
Needs the dependency groups `docs` (pyte emulates the terminal) and `browser`, Debian's Chromium and
a POSIX system; a minute.
"""

from __future__ import annotations

import argparse
import html
import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from recordings import ROOT, SAMPLES, group

if TYPE_CHECKING:
    import pyte

PICTURES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "demo.svg": ("stt", "transcribe", "-f", "srt", "samples/weather.flac"),
        "live.svg": ("stt", "live", "--input", "samples/train.flac"),
    }
)
"""Picture in docs/ -> the command it shows."""
BEFORE = ("stt", "transcribe", "samples/train.flac")
"""Run before, unseen: the starter is prepared and introduces itself."""
MOVING = frozenset({"live.svg"})
COLUMNS = 92
FRAME_S = 0.1
HOLD_S = 4.0
"""Seconds the last frame stays before the recording begins anew."""
CELL_W, CELL_H, SIZE, PAD = 7.8, 18, 13, 14
COLOURS = {"cyan": "#56b6c2", "brown": "#d8a657", "green": "#98c379", "red": "#e06c75"}


@dataclass(frozen=True)
class Frame:
    """A screen and when it was there first."""

    at: float
    lines: tuple[str, ...]
    """SVG of each row."""


def recorded(command: tuple[str, ...], rows: int, folder: str, env: dict[str, str]) -> list[Frame]:
    """Run a command in a folder and return the screens it showed."""
    import pyte

    screen = pyte.Screen(COLUMNS, rows)
    stream = pyte.ByteStream(screen)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        size = {"COLUMNS": str(COLUMNS), "LINES": str(rows), "TERM": "xterm-256color"}
        os.execvpe(command[0], command, env | size)
    began, frames = time.monotonic(), list[Frame]()
    while True:
        now = time.monotonic() - began
        if select.select([terminal], [], [], FRAME_S)[0]:
            try:
                data = os.read(terminal, 65536)
            except OSError:  # how Linux says that the other end was closed
                break
            if not data:
                break
            stream.feed(data)
        if not frames or now - frames[-1].at >= FRAME_S:
            _keep(frames, now, screen)
    _keep(frames, time.monotonic() - began, screen)
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(f"{shlex.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return frames


def _keep(frames: list[Frame], now: float, screen: pyte.Screen) -> None:
    lines = tuple(_svg(screen, row) for row in range(screen.lines))
    if not frames or frames[-1].lines != lines:
        frames.append(Frame(now, lines))


def _svg(screen: pyte.Screen, row: int) -> str:
    """One row as tspans; the draft's dimmed italics are not in pyte, which knows no `dim`."""
    cells = [screen.buffer[row][column] for column in range(COLUMNS)]
    while cells and cells[-1].data == " ":
        cells.pop()
    spans = []
    for (colour, bold, italic), run in groupby(cells, lambda c: (c.fg, c.bold, c.italics)):
        text = html.escape("".join(cell.data for cell in run)).replace(" ", "\u00a0")
        look = ' font-style="italic" fill-opacity="0.6"' if italic else ""
        look += ' font-weight="bold"' if bold else ""
        look += f' fill="{COLOURS[colour]}"' if colour in COLOURS else ""
        spans.append(f"<tspan{look}>{text}</tspan>")
    return "".join(spans)


def drawn(frames: list[Frame], title: str) -> str:
    """Return one SVG in which the frames follow one another, each as long as it stood."""
    rows = max(n for frame in frames for n, line in enumerate(frame.lines, 1) if line)
    total = frames[-1].at + HOLD_S
    width, height = COLUMNS * CELL_W + 2 * PAD, (rows + 1.5) * CELL_H + 2 * PAD
    style, body = [], []
    for number, ((row, line), times) in enumerate(_times(frames, total).items()):
        if len(frames) > 1:
            style.append(_animation(number, times, total))
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


def _animation(number: int, times: list[tuple[float, bool]], total: float) -> str:
    states = "".join(
        f"{100 * at / total:.2f}%{{visibility:{'visible' if seen else 'hidden'}}}"
        for at, seen in times
    )
    return (
        f"@keyframes f{number}{{{states}}}"
        f"#f{number}{{visibility:hidden;animation:f{number} {total:.1f}s step-end infinite}}"
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


def fresh_home(folder: Path) -> dict[str, str]:
    """Put samples/ into an empty folder, a home; returns the environment to run stt there in.

    Its models are its own: what was made of this clone's starter would show.
    """
    (folder / "samples").symlink_to(SAMPLES, target_is_directory=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STT_")}
    homes = {f"XDG_{kind}_HOME": str(folder / kind.lower()) for kind in ("CONFIG", "DATA", "STATE")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    models = {"STT_MODELS_DIR": str(folder / "models")}
    return {**kept, **homes, **models, "HOME": str(folder), "PATH": path}


def page_shown(path: Path, env: dict[str, str]) -> None:
    """Take a picture of `stt serve`'s page with recordings that it has transcribed."""
    from playwright.sync_api import sync_playwright

    command = [Path(sys.executable).with_name("stt"), "serve", "--port", "0"]
    server = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    url = next(line.split()[3].rstrip(";") for line in server.stderr if "listening on http" in line)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            headless=False,
            args=["--headless=new", "--no-sandbox"],
        )
        page = browser.new_page(viewport={"width": 1100, "height": 900})
        page.goto(url)
        page.wait_for_selector("#workplace:not([hidden])")
        page.set_input_files("#files", [SAMPLES / "train.flac", SAMPLES / "story.flac"])
        page.click("#queue li:nth-child(2) button[aria-label^=Open]", timeout=120_000)
        page.evaluate("document.getElementById('player').currentTime = 8")
        page.wait_for_timeout(500)
        page.screenshot(path=path, full_page=True)
        browser.close()
    server.terminate()
    server.wait(60)


def main() -> None:
    """Make each picture."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    with group("docs"):
        import pyte  # noqa: F401 - before anything runs
    with tempfile.TemporaryDirectory() as name:
        environment = fresh_home(Path(name))
        subprocess.run(BEFORE, cwd=name, env=environment, check=True, capture_output=True)
        for picture, command in PICTURES.items():
            frames = recorded(command, 16 if picture in MOVING else 40, name, environment)
            shown = frames if picture in MOVING else frames[-1:]
            title = shlex.join(command)
            (ROOT / "docs" / picture).write_text(drawn(shown, title), "utf-8")
            print(f"docs/{picture}: {title}")
        page_shown(ROOT / "docs" / "page.png", environment)
        print("docs/page.png: stt serve")


if __name__ == "__main__":
    main()
