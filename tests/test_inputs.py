"""What a command line names: which recordings, in which order, under which result names."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stt.cli.inputs import _named_apart, collect

LINKS = pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")


def named(*paths: str, recursive: bool = False) -> dict[str, str]:
    inputs, errors = collect(paths, recursive=recursive)
    assert not errors
    return {Path(i.source).as_posix(): i.stem.as_posix() for i in inputs}


@pytest.mark.parametrize(
    ("there", "asked", "stems"),
    [
        (["b.wav", "a.mp3"], ["b.wav", "a.mp3"], ["b", "a"]),
        (["a.mp3", "a.wav", "b.wav"], ["a.mp3", "a.wav", "b.wav"], ["a.mp3", "a.wav", "b"]),
        (["x/a.wav", "y/a.wav"], ["x/a.wav", "y/a.wav"], ["a", "a-2"]),
        (["x/a.wav", "y/a.wav", "z/a.mp3"], ["x/a.wav", "y", "z"], ["a", "a-2", "a.mp3"]),
        ([], ["-", "-"], ["stdin"]),
        ([], ["gone.wav", "-"], ["gone", "stdin"]),  # a missing file fails when it is opened
    ],
)
def test_files_keep_their_order_and_names_apart(
    here: Path, there: list[str], asked: list[str], stems: list[str]
) -> None:
    make(*there)
    sources = there or dict.fromkeys(asked)
    assert list(named(*asked).items()) == list(zip(sources, stems, strict=True))


def test_a_folder_gives_its_recordings_sorted(here: Path) -> None:
    make("in/b.wav", "in/A.MP3", "in/c.txt", "in/.hidden.wav", "in/._b.wav", "in/deep/d.wav")
    Path("in/folder.wav").mkdir()
    assert list(named("in")) == ["in/A.MP3", "in/b.wav"]


def test_folders_in_folders_keep_their_place(here: Path) -> None:
    make("in/b.wav", "in/x/a.wav", "in/x/y/a.wav", "in/.git/a.wav")
    found = named("in", recursive=True)
    assert found == {"in/b.wav": "b", "in/x/a.wav": "x/a", "in/x/y/a.wav": "x/y/a"}


def test_a_folder_without_recordings_tells_the_cure(here: Path) -> None:
    make("in/notes.txt", "in/deep/a.wav", "none/notes.txt")
    inputs, (error,) = collect(["in"], recursive=False)
    assert not inputs
    assert str(error) == "in: no recordings in this folder; add --recursive for the folders in it"
    _, (error,) = collect(["none"], recursive=True)
    assert str(error) == "none: no recordings in this folder; name a recording"


def test_an_empty_name_is_an_error(here: Path) -> None:
    inputs, errors = collect([""], recursive=False)
    assert not inputs
    assert "an empty name" in str(errors[0])


@pytest.mark.parametrize("again", ["a.wav", "./a.wav", "../in/a.wav", "."])
def test_named_twice_done_once(here: Path, again: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make("in/a.wav")
    monkeypatch.chdir("in")
    assert named("a.wav", again) == {"a.wav": "a"}


def test_a_name_that_looks_like_a_number(here: Path) -> None:
    make("x/a.wav", "y/a.wav", "a-2.wav")
    found = named("x/a.wav", "y/a.wav", "a-2.wav")
    assert len(set(found.values())) == 3


def test_letter_case_alone_does_not_tell_results_apart(here: Path) -> None:
    make("x/A.wav", "y/a.wav", "z/É.wav", f"w/{unicodedata.normalize('NFD', 'é')}.wav")
    found = named("x", "y", "z", "w")
    assert len({unicodedata.normalize("NFC", stem).casefold() for stem in found.values()}) == 4


def test_results_in_the_folder_of_the_recordings(here: Path) -> None:
    make("in/a.wav", "in/out/a.txt", "in/out/a.json", "in/out/a.srt", "in/out/a.tsv")
    assert list(named("in", recursive=True)) == ["in/a.wav"]


@LINKS
def test_links_in_a_circle_end(here: Path) -> None:
    make("in/a.wav", "in/deep/b.wav")
    Path("in/deep/up").symlink_to("..")
    Path("in/self").symlink_to(".")
    Path("in/loop.wav").symlink_to("loop.wav")
    Path("in/dangling.wav").symlink_to("nowhere.wav")
    assert list(named("in", recursive=True)) == ["in/a.wav", "in/deep/b.wav"]


@LINKS
def test_links_to_folders_and_files_are_followed(here: Path) -> None:
    make("elsewhere/b.wav")
    Path("in").mkdir()
    Path("in/link").symlink_to("../elsewhere")
    Path("in/c.wav").symlink_to("../elsewhere/b.wav")
    assert list(named("in", recursive=True)) == ["in/c.wav", "in/link/b.wav"]


@LINKS
def test_a_folder_one_may_not_search(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("in/a.wav", "in/shut/b.wav")
    scandir = os.scandir

    def shut(path: str) -> object:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", shut)
    inputs, (error,) = collect(["in"], recursive=True)
    assert [i.source for i in inputs] == ["in/a.wav"]
    assert str(error) == "in/shut: cannot be searched (Permission denied); check its rights"


names = st.text("aAbB.-2éÉ", min_size=1, max_size=5).filter(lambda n: n.strip(".") != "")
paths = st.builds(
    lambda folder, name, suffix: Path(folder, f"{name}.{suffix}"),
    st.sampled_from(["", "x", "y"]),
    names,
    st.sampled_from(["wav", "mp3"]),
)


@settings(max_examples=40)
@given(st.lists(paths, max_size=12))
def test_result_names_are_apart_on_every_disk(found: list[Path]) -> None:
    inputs = _named_apart([(f"{i}/{path}", path) for i, path in enumerate(found)])
    stems = [unicodedata.normalize("NFC", str(i.stem)).casefold() for i in inputs]
    assert len(set(stems)) == len(found)
    assert [i.source for i in inputs] == [f"{i}/{path}" for i, path in enumerate(found)]
    for item, path in zip(inputs, found, strict=True):
        assert item.stem.parent == path.parent
