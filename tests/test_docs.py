"""README and docs say what is true: Python and commands run; options, files and links exist."""

from __future__ import annotations

import argparse
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from stt.cli import main
from stt.cli import stt as command_line
from stt.text.transcript import FORMATS
from stt.transcript import FORMAT_NAMES
from support.paths import CLIPS, DIGITS, ROOT

PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / folder / "README.md" for folder in ("samples", "tests")),
]
README = (ROOT / "README.md").read_text("utf-8")
DOCS = {path.name: path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
PAGE_OF = {
    **{"transcribe": "files.md", "live": "live.md", "setup": "setup.md", "bench": "speed.md"},
    "serve": "serve.md",
}
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
    message = re.search(rf"```\n(stt {name} (?:PATH|\[).*?)```", DOCS[PAGE_OF[name]], re.DOTALL)
    assert message
    for parameter in command_line.commands[name].params:
        if parameter.param_type_name == "option" and parameter.name != "help":
            assert any(flag in message[1] for flag in parameter.opts), parameter.opts


_LINKS = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
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


FOLDERS = (ROOT / "scripts", ROOT / "benchmarks")
_BEGINS = re.compile(
    r"(stt|make|pip|uv|pytest|python -m pytest|(python )?(scripts|benchmarks)/\w+\.py)(\s|$)"
)


def printed(page: Path) -> Iterator[str]:
    """The command lines of a page: lines of its blocks, and code in its sentences."""
    text = page.read_text("utf-8")
    for block in re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        lines = re.sub(r"\\\n|\n(?=\s+[\[-])", " ", block).splitlines()
        yield from (line.strip() for line in lines if _BEGINS.match(line.strip()))
    sentences = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", sentences):
        line = " ".join(code.split())
        if _BEGINS.match(line):
            yield line


def arguments(line: str) -> list[str]:
    """The words of a command, without what is optional in a synopsis and what the shell takes."""
    while (plain := re.sub(r"\s*\[(?![a-z,]+\]')[^\[\]]*\]", "", line)) != line:
        line = plain
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = []
    for word in lexer:
        if set(word) <= set("();<>|&"):
            break
        words.append(word)
    return words


LINES = sorted({re.sub(r"\s+#.*", "", line) for page in PAGES for line in printed(page)})


def of(program: str) -> list[str]:
    return [line for line in LINES if re.match(rf"(python )?{program}", line)]


def test_there_are_many() -> None:
    assert len(of("stt")) > 30
    assert len(of("scripts/")) >= 6
    assert "stt setup --precision mixed --rtol 0.01" in LINES


def _commands(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        yield command
        if isinstance(command, click.Group):
            yield from _commands(command)


@pytest.mark.parametrize("line", of("stt"))
def test_stt_takes_it(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in _commands(command_line):
        monkeypatch.setattr(command, "callback", lambda *_, **__: 0)
    words = arguments(line)[1:]
    if not _names_a_command(words):
        command_line.main(words, prog_name="stt", standalone_mode=False)


def _names_a_command(words: list[str]) -> bool:
    """Whether these words are a command's name alone, as sentences have it."""
    known: click.Command | None = command_line
    for word in words:
        known = known.commands.get(word) if isinstance(known, click.Group) else None
    return known is not None


def _examples(line: str) -> bool:
    """Whether a documented line can run here: no network, no microphone, no cluster."""
    if "--ray" in line or "--watch" in line or "..." in line or "MODEL" in line:
        return False
    if _names_a_command(arguments(line)[1:]):
        return line == "stt config"
    return re.match(r"stt (transcribe|config|live --input) ", line) is not None


@pytest.mark.parametrize("line", [line for line in of("stt") if _examples(line)])
@pytest.mark.usefixtures("no_variables")
def test_what_can_run_here_runs(
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    clip = CLIPS / "two-digits.flac"
    for name in ("talk.mp3", "a.wav", "FILE", "DIR/a.flac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(clip, tmp_path / name)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("STT_MODEL", str(DIGITS))
    monkeypatch.chdir(tmp_path)
    if ">" in line:
        code = subprocess.run(line, shell=True, check=False).returncode
    else:
        code = main(arguments(line)[1:])
    message = capfd.readouterr().err
    assert code == 0, message
    assert "Traceback" not in message


class _ParsedError(Exception):
    pass


def _parse(script: Path, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a script up to the end of its command line's parsing."""
    take = argparse.ArgumentParser.parse_args

    def parse(self: argparse.ArgumentParser, *given: object) -> None:
        take(self)
        raise _ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    monkeypatch.setattr(sys, "argv", [str(script), *words])
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    try:
        with pytest.raises(_ParsedError):
            runpy.run_path(str(script), run_name="__main__")
    except SystemExit as error:
        if "pip install --group" in str(error.code):
            pytest.skip(str(error.code))
        raise AssertionError(f"refused: {error.code}") from error


def _is_here(line: str) -> bool:
    """Whether its script is there; laboratory notes tell the commands of some that are gone."""
    return any((ROOT / word).is_file() for word in arguments(line)[:2])


@pytest.mark.parametrize("line", [line for line in of("(scripts|benchmarks)/") if _is_here(line)])
def test_the_script_takes_it(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = arguments(line)
    script = ROOT / words[words[0] == "python"]
    rest = words[1 + (words[0] == "python") :]
    _parse(script, rest, monkeypatch)


DOWNLOADS = {"setup_models"}
TOOLS = sorted(
    f"{path.parent.name}/{path.name}"
    for folder in FOLDERS
    for path in folder.glob("*.py")
    if "__main__" in path.read_text("utf-8") and path.stem not in DOWNLOADS
)
NEED_ARGUMENTS = {"scripts/make_samples.py"}
WRITES_DOCS = {"scripts/make_pictures.py"}
SHORT = {
    "benchmarks/live.py": ["utterances", "--fast", "-n", "2"],
    "benchmarks/conversions.py": ["--rounds", "1"],
    "scripts/evaluate.py": ["--alone"],
}
"""What makes a run short; what they run on is the default."""


@pytest.mark.parametrize("name", [name for name in TOOLS if name not in NEED_ARGUMENTS])
def test_scripts_need_no_arguments(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _parse(ROOT / name, [], monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [name for name in TOOLS if name not in WRITES_DOCS])
def test_scripts_run_on_what_the_clone_has(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / name), *SHORT.get(name, [])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    if done.returncode:  # no such model yet, a package or a sound system that is missing
        assert done.stderr.strip() or done.stdout.strip()
        message = done.stderr + done.stdout
        assert re.search(r"models/parakeet|pip install|apt install|required: ", message), message


def test_a_note_names_the_commit_of_a_script_that_is_gone() -> None:
    """Laboratory notes keep their commands: at that commit they run."""
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = page.read_text("utf-8")
        for script in set(re.findall(r"(?:scripts|benchmarks)/\w+\.py", text)):
            known = (ROOT / script).is_file()
            assert known or re.search(rf"`{script}`\s+at\s+`[0-9a-f]{{7}}`", text), (
                page.name,
                script,
            )


@pytest.mark.parametrize("line", of("make"))
def test_make_has_the_target(line: str) -> None:
    target = next((word for word in arguments(line)[1:] if "=" not in word), "demo")
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("line", [*of("pip"), *of("uv")])
def test_extras_and_groups_exist(line: str) -> None:
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    words = arguments(line)
    extras = {words[i + 1] for i, word in enumerate(words) if word == "--extra"}
    for word in words:
        if found := re.fullmatch(r"\.\[(.*)\]", word):
            extras |= set(found[1].split(","))
    groups = {words[i + 1] for i, word in enumerate(words) if word == "--group"}
    assert extras <= set(project["project"]["optional-dependencies"])
    assert groups <= set(project["dependency-groups"])


@pytest.mark.parametrize("line", of("pytest"))
def test_tests_that_are_named_exist(line: str) -> None:
    for word in arguments(line):
        if word.startswith("tests/"):
            assert (ROOT / word).exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(("answer", "is_kept"), [("n\n", True), ("", True), ("y\n", False)])
def test_no_is_an_answer_and_no_failure(tmp_path: Path, answer: str, is_kept: bool) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("models", "build", ".venv"):
        (tmp_path / name).mkdir()
    done = subprocess.run(
        ["make", "distclean"],
        cwd=tmp_path,
        input=answer,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert ("nothing is deleted" in done.stdout) == is_kept
    left = {path.name for path in tmp_path.iterdir()} - {"Makefile"}
    assert left == ({"models", "build", ".venv"} if is_kept else set())


@pytest.mark.parametrize(
    "page",
    ["README.md", *(f"docs/{name}.md" for name in ("files", "live", "python", "api", "settings"))],
)
def test_a_page_that_lists_the_formats_names_all(page: str) -> None:
    words = set(re.findall(r"[a-z]+", (ROOT / page).read_text("utf-8")))
    assert words >= set(FORMAT_NAMES) == set(FORMATS)
