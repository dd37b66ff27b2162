"""Debian's Chromium, driven by Playwright's Python package; and a microphone that plays a file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.paths import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NODE_MODULES = ROOT / ".venv" / "npm" / "node_modules"
"""Where `make browser` puts packages of npm."""
AXE = NODE_MODULES / "axe-core" / "axe.min.js"


def skip_without_browser() -> None:
    pytest.importorskip("playwright", reason="the package playwright is missing: make browser")
    if CHROMIUM is None:
        pytest.skip("Chromium is missing; install Debian's: apt install chromium")


@contextmanager
def chromium(microphone: Path | None = None, *, allowed: bool = True) -> Iterator[Any]:
    """Start it, whole and without a window: its headless shell has no microphone."""
    from playwright.sync_api import sync_playwright

    arguments = ["--headless=new", "--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    if microphone is not None:
        arguments += [
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-audio-capture={microphone.absolute()}",
        ]
        if allowed:
            arguments.append("--use-fake-ui-for-media-stream")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, headless=False, args=arguments
        )
        yield browser
        browser.close()


class Watched:
    """A page, and all that it asked for or complained of."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.context = browser.new_context(accept_downloads=True, **options)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._console)
        self.page.goto(url)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)
