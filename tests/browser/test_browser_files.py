"""Recordings on the page, in Debian's Chromium: sent, shown, played, edited, downloaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import soundfile

from stt.serve.page import ROUTES
from support.browsing import AXE, Watched, chromium, skip_without_browser
from support.loading import load_model
from support.paths import CLIPS, DIGITS, ROOT
from support.serving import Running, running

pytestmark = [pytest.mark.slow, pytest.mark.browser]
DESK = {"viewport": {"width": 1200, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 800}, "has_touch": True}


@pytest.fixture(scope="module", autouse=True)
def _browser_is_here() -> None:
    skip_without_browser()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    assert ROUTES
    with running(lambda: load_model(DIGITS, precision="fp32", provider="cpu")) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several clips after one another, with pauses."""
    parts = [np.zeros(16_000, np.float32)]
    for path in sorted(CLIPS.glob("*.flac"))[:4]:
        parts += [soundfile.read(path, dtype="float32")[0], np.zeros(16_000, np.float32)]
    path = tmp_path_factory.mktemp("said") / "digits.wav"
    soundfile.write(path, np.concatenate(parts), 16_000, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def text(digits: Path) -> str:
    return load_model(DIGITS, precision="fp32", provider="cpu").transcribe(str(digits)).text


def opened(browser: Any, server: Running, *files: Path, **options: Any) -> Watched:
    """The page with recordings that are done."""
    watched = Watched(browser, server.url, **(options or DESK))
    page = watched.page
    page.wait_for_selector("#workplace:not([hidden])")
    page.set_input_files("#files", [str(path) for path in files])
    for place in range(len(files)):
        page.wait_for_selector(f"#queue li:nth-child({place + 1}) button[aria-label^=Open]")
    return watched


def words(page: Any) -> str:
    return " ".join(page.locator("#text .word").all_inner_texts())


def test_what_is_dropped_is_transcribed_and_nothing_comes_from_elsewhere(
    browser: Any, server: Running, digits: Path, text: str
) -> None:
    watched = opened(browser, server, digits)
    assert words(watched.page) == text
    assert "parakeet-digits, fp32 on cpu" in watched.page.inner_text("#served")
    own = (server.url, f"blob:{server.url}")
    assert not [url for url in watched.asked if not url.startswith(own)]
    assert not watched.complaints


def test_a_word_is_gone_to_and_the_spoken_one_is_lit(
    browser: Any, server: Running, digits: Path
) -> None:
    page = opened(browser, server, digits).page
    word = page.locator("#text .word").nth(5)
    began = float(word.get_attribute("data-at"))
    word.click()
    page.wait_for_selector("#text .word.lit")
    at = page.evaluate("document.getElementById('player').currentTime")
    assert began <= at < began + 2
    page.evaluate("document.getElementById('player').pause()")
    page.evaluate(f"document.getElementById('player').currentTime = {began + 0.01}")
    page.wait_for_timeout(300)
    assert page.locator("#text .word.lit").get_attribute("data-at") == str(began)
    page.select_option("#speed", "1.5")
    assert page.evaluate("document.getElementById('player').playbackRate") == 1.5


def test_by_keyboard_alone(browser: Any, server: Running, digits: Path) -> None:
    page = opened(browser, server, digits).page
    page.locator("#text .word").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    third = page.locator("#text .word").nth(2)
    page.wait_for_timeout(300)
    assert page.evaluate("document.activeElement.dataset.at") == third.get_attribute("data-at")
    assert page.evaluate("document.getElementById('player').currentTime") >= float(
        third.get_attribute("data-at")
    )
    page.goto(server.url)
    met = []
    for _ in range(5):
        page.keyboard.press("Tab")
        met.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"files", "listen"} <= set(met)


def test_search_marks_and_counts(browser: Any, server: Running, digits: Path, text: str) -> None:
    page = opened(browser, server, digits).page
    page.fill("#search", "one eight")
    assert page.inner_text("#found") == f"{text.count('one eight')} found"
    assert page.locator("#text .word.found").count() == 2 * text.count("one eight")
    page.fill("#search", "never said")
    assert page.inner_text("#found") == "none found"


def test_edits_keep_every_time_and_are_in_every_download(
    browser: Any, server: Running, digits: Path, tmp_path: Path
) -> None:
    page = opened(browser, server, digits).page
    before = [
        (one.inner_text(), one.get_attribute("data-at")) for one in page.locator(".word").all()
    ]
    page.click("#edit")
    line = page.locator("#text .words").first
    said = line.inner_text().split(" ")
    line.fill(" ".join([said[0], "Siebenundzwanzig", *said[2:]]))
    page.click("#edit")
    after = [
        (one.inner_text(), one.get_attribute("data-at")) for one in page.locator(".word").all()
    ]
    assert [at for _, at in after] == [at for _, at in before]
    assert [word for word, _ in after] == [
        before[0][0],
        "Siebenundzwanzig",
        *(word for word, _ in before[2:]),
    ]
    for form in ("txt", "srt", "vtt", "json"):
        with page.expect_download() as waiting:
            page.click(f"[data-form={form}]")
        saved = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(saved)
        assert saved.name == f"digits.{form}"
        assert "Siebenundzwanzig" in saved.read_text("utf-8")
    document = json.loads((tmp_path / "digits.json").read_text("utf-8"))
    schema = json.loads((ROOT / "docs" / "transcript.schema.json").read_text("utf-8"))
    jsonschema.validate(document, schema)
    assert document["coverage"]["notes"][-1].endswith("edited by hand")
    readable(tmp_path)


def readable(folder: Path) -> None:
    """Others' parsers read the subtitles."""
    import pysubs2
    import webvtt

    assert len(pysubs2.load(str(folder / "digits.srt"))) == len(webvtt.read(folder / "digits.vtt"))


def test_one_is_cancelled_another_fails_and_the_rest_is_done(
    browser: Any, server: Running, digits: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound at all")
    long = tmp_path / "long.wav"
    samples, _ = soundfile.read(digits)
    soundfile.write(long, np.tile(samples, 60), 16_000, subtype="PCM_16")
    watched = Watched(browser, server.url, **DESK)
    page = watched.page
    page.wait_for_selector("#workplace:not([hidden])")
    page.set_input_files("#files", [str(long), str(broken), str(digits)])
    page.click("#queue li:nth-child(1) button[aria-label^=Cancel]")
    page.wait_for_selector("#queue li:nth-child(3) button[aria-label^=Open]")
    assert page.inner_text("#queue li:nth-child(1) .state") == "cancelled"
    assert "broken.wav" in page.inner_text("#queue li:nth-child(2) .state.bad")


def test_progress_is_told_while_it_is_made(
    browser: Any, server: Running, digits: Path, tmp_path: Path
) -> None:
    long = tmp_path / "long.wav"
    samples, _ = soundfile.read(digits)
    soundfile.write(long, np.tile(samples, 150), 16_000, subtype="PCM_16")
    page = Watched(browser, server.url, **DESK).page
    page.wait_for_selector("#workplace:not([hidden])")
    page.set_input_files("#files", str(long))
    page.wait_for_selector("#text .said")  # text is there before the end
    assert page.locator("#queue button[aria-label^=Cancel]").count() == 1
    page.wait_for_selector("text=/real time.* left/")
    page.click("#queue button[aria-label^=Cancel]")


def test_a_key_is_asked_for_and_kept_for_the_tab(browser: Any, digits: Path, text: str) -> None:
    with running(lambda: load_model(DIGITS, provider="cpu"), api_key="secret") as server:
        watched = Watched(browser, server.url, **DESK)
        page = watched.page
        page.wait_for_selector("#key-form:not([hidden])")
        assert page.is_hidden("#workplace")
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#key-message:not([hidden])")
        page.fill("#key", "secret")
        page.keyboard.press("Enter")
        page.wait_for_selector("#workplace:not([hidden])")
        page.set_input_files("#files", str(digits))
        page.wait_for_selector("#queue button[aria-label^=Open]")
        assert words(page) == text
        page.reload()
        page.wait_for_selector("#workplace:not([hidden])")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_telephone_nothing_is_cut_off(
    browser: Any, server: Running, digits: Path, scheme: str
) -> None:
    page = opened(browser, server, digits, **PHONE, color_scheme=scheme).page
    wide, room = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= room
    page.click("#edit")
    wide, room = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= room


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("editing", [False, True])
def test_axe_finds_nothing_serious(
    browser: Any, server: Running, digits: Path, scheme: str, editing: bool
) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is missing: make browser")
    page = opened(browser, server, digits, **DESK, color_scheme=scheme).page
    if editing:
        page.click("#edit")
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("axe.run().then(({violations}) => violations)")
    serious = [
        (one["id"], [node["html"] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert not serious
