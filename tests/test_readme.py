"""README and docs say what is true: their Python runs, their commands, options and files exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stt.cli import stt as command_line
from support.paths import ROOT

README = (ROOT / "README.md").read_text("utf-8")
DOCS = {path.name: path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
PAGE_OF = {"transcribe": "files.md", "live": "live.md", "setup": "setup.md", "bench": "speed.md"}
"""Command with a synopsis -> the page that has it."""


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= 1300


def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "samples").symlink_to(ROOT / "samples", target_is_directory=True)
    example, live_example = re.findall(r"```python\n(.*?)```", DOCS["python.md"], re.DOTALL)
    [short] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert [line.split("  #")[0] for line in example.splitlines()][: len(short.splitlines())] == (
        short.splitlines()
    )
    compile(live_example, "python.md", "exec")  # tests/sound has a microphone to run the like on
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "python.md", "exec"), {})
    assert (tmp_path / "weather.srt").exists()
    first, used, *segments = capsys.readouterr().out.splitlines()
    assert "rain" in first
    assert used.startswith(("starter fp32", "parakeet "))
    assert re.match(r"\d+\.\d\d \d+\.\d\d \w+", segments[0])


@pytest.mark.parametrize("name", sorted(command_line.commands))
def test_every_command_is_in_the_readme(name: str) -> None:
    assert f"stt {name}" in README


@pytest.mark.parametrize("name", sorted(PAGE_OF))
def test_every_option_is_on_its_page(name: str) -> None:
    told = re.search(rf"```\n(stt {name} (?:PATH|\[).*?)```", DOCS[PAGE_OF[name]], re.DOTALL)
    assert told
    for parameter in command_line.commands[name].params:
        if parameter.param_type_name == "option" and parameter.name != "help":
            assert any(flag in told[1] for flag in parameter.opts), parameter.opts


_LINKS = re.compile(r"\]\(([^)\s]+)\)")
_PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_files_and_headings_that_a_page_links_to_exist(page: Path) -> None:
    for link in _LINKS.findall(page.read_text("utf-8")):
        name, _, heading = link.partition("#")
        if "://" in name:
            continue
        target = page.parent / name if name else page
        assert target.exists(), link
        if heading:
            assert heading in _headings(target), link


def _headings(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    lines = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines}


def test_every_page_of_the_docs_is_linked_from_the_readme() -> None:
    linked = {link.split("#")[0] for link in _LINKS.findall(README)}
    assert {f"docs/{name}" for name in DOCS} <= linked


def test_modules_that_the_architecture_names_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    named = set(re.findall(r"[a-z_]+/\w+\.py|(?<=`)\w+\.py", text))
    assert len(named) > 40
    bases = (ROOT, ROOT / "src" / "stt", ROOT / "tests")
    missing = {name for name in named if not any((base / name).exists() for base in bases)}
    assert not missing
