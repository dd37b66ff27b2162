"""`stt config`: what it prints, and that it changes nothing else in the file."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from stt.cli.config import config, remove_member, set_member
from stt.errors import SettingsError
from stt.settings import loading as settings
from support.paths import ROOT

NOWHERE = Path("stt_config.json")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, no_variables: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings, "user_config", lambda: tmp_path / "user" / "stt_config.json")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(config, arguments, catch_exceptions=False)


# --- showing ---------------------------------------------------------------------------------


def test_the_table_tells_where_each_value_is_from(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("stt_config.json").write_text('{"formats": ["txt", "srt"]}')
    monkeypatch.setenv("STT_THREADS", "2")
    lines, _, places = run().stdout.partition("\n\n")
    assert str(folder / "models") in places.splitlines()[1]
    lines = lines.splitlines()
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in lines}
    assert rows["key"] == ["value", "from"]
    assert rows["threads"] == ["2", "environment STT_THREADS"]
    assert rows["formats"] == ["txt,srt", "stt_config.json"]
    assert rows["max_segment_s"] == ["28", "default"]
    assert rows["models_dir"] == ["null", "default"]
    assert len({line.index(row[1]) for line, row in zip(lines, rows.values(), strict=True)}) == 1


def test_json_tells_the_same() -> None:
    path = Path("other.json")
    path.write_text('{"strict": true}')
    document = json.loads(run("--json", "--config", "other.json").stdout)
    assert document["config"] == "other.json"
    assert document["settings"]["strict"] == {"value": True, "from": "other.json"}
    assert document["settings"]["threads"] == {"value": 0, "from": "default"}


def test_a_broken_file_is_an_error() -> None:
    Path("stt_config.json").write_text("{")
    with pytest.raises(SettingsError, match="line 1, column 2"):
        run()


# --- changing --------------------------------------------------------------------------------


def test_set_makes_the_file(folder: Path) -> None:
    result = run("set", "max_segment_s", "20", "--config", "new/a.json")
    assert result.stdout == f"max_segment_s = 20 in {Path('new/a.json')}\n"
    assert Path("new/a.json").read_text() == '{\n  "max_segment_s": 20\n}\n'
    run("set", "strict", "true")
    assert (folder / "user" / "stt_config.json").read_text() == '{\n  "strict": true\n}\n'


def test_set_and_unset_touch_only_their_key() -> None:
    text = '{\r\n\t"strict" : true,\r\n\r\n\t"threads" :  1, "model": "a/\\u00e9"\r\n}'
    path = Path("stt_config.json")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    run("set", "threads", "12")
    expected = text.replace(":  1", ":  12")
    assert path.read_bytes() == b"\xef\xbb\xbf" + expected.encode()
    run("set", "vad_threshold", "0.25")
    assert path.read_bytes()[3:].decode() == expected.replace(
        '"\r\n}', '", "vad_threshold": 0.25\r\n}'
    )
    run("unset", "vad_threshold")
    run("unset", "strict")
    assert path.read_bytes()[3:].decode() == '{\r\n\t"threads" :  12, "model": "a/\\u00e9"\r\n}'


def test_the_groups_own_config_option_counts() -> None:
    run("--config", "a.json", "set", "threads", "3")
    assert json.loads(Path("a.json").read_text()) == {"threads": 3}
    assert "threads" in run("unset", "threads", "--config", "a.json").stdout
    assert Path("a.json").read_text() == "{}\n"


def test_the_file_of_the_variable_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STT_CONFIG", "mine.json")
    run("set", "threads", "3")
    assert json.loads(Path("mine.json").read_text()) == {"threads": 3}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", "precision", "fp15"), "precision: 'fp15' is not allowed; choose auto, "),
        (("set", "precison", "fp16"), "precison: unknown key; did you mean precision?"),
        (("unset", "precison"), "precison: unknown key; did you mean precision?"),
    ],
)
def test_a_refused_change_leaves_the_file(arguments: tuple[str, ...], said: str) -> None:
    path = Path("stt_config.json")
    path.write_text('{"threads": 1}')
    with pytest.raises(SettingsError) as caught:
        run(*arguments)
    assert str(caught.value).startswith(said)
    assert path.read_text() == '{"threads": 1}'


def test_a_wrong_key_in_the_file_can_be_unset() -> None:
    path = Path("stt_config.json")
    path.write_text('{"precison": "fp16", "threads": "x"}')
    run("unset", "precison")
    run("set", "threads", "1")
    assert path.read_text() == '{"threads": 1}'


def test_unset_of_what_is_not_set_is_fine() -> None:
    Path("stt_config.json").write_text("{}")
    assert run("unset", "threads").stdout == "threads is not set in stt_config.json\n"


def test_a_variable_that_still_decides_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STT_THREADS", "2")
    assert "STT_THREADS is set in the environment" in run("set", "threads", "3").stderr


def test_a_file_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").write_text("")
    with pytest.raises(SettingsError, match="cannot write"):
        run("set", "threads", "1", "--config", "file/a.json")


# --- texts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "key", "value", "after"),
    [
        ("", "a", 1, '{\n  "a": 1\n}\n'),
        ("{ }", "a", 1, '{\n  "a": 1\n}'),
        ('{"a":1}', "b", "x", '{"a":1,"b":"x"}'),
        ('{\n    "a": 1\n}\n', "b", [1], '{\n    "a": 1,\n    "b": [1]\n}\n'),
        ('{"a": {"b": 1}, "b": 2}', "b", 3, '{"a": {"b": 1}, "b": 3}'),
        ('{"a": 1.0}', "a", 1, '{"a": 1}'),
        ('{"a": "\\u0031"}', "a", "1", '{"a": "\\u0031"}'),
        (
            '{\n "a": [\n  "x",\n  "y"\n ]\n}',
            "a",
            ["z", "x"],
            '{\n "a": [\n  "z",\n  "x"\n ]\n}',
        ),
    ],
)
def test_set_member(before: str, key: str, value: object, after: str) -> None:
    assert set_member(before, key, value, NOWHERE) == after


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
objects = st.dictionaries(st.text(max_size=5), values, max_size=5)


@given(
    objects,
    st.text(max_size=5),
    values,
    st.sampled_from([None, 1, 4, "\t"]),
    st.sampled_from([(",", ":"), (" , ", " : ")]),
    st.booleans(),
)
def test_set_and_remove_are_exact(
    members: dict[str, object],
    key: str,
    value: object,
    indent: int | str | None,
    separators: tuple[str, str],
    ascii_only: bool,
) -> None:
    text = json.dumps(members, indent=indent, separators=separators, ensure_ascii=ascii_only)
    changed = set_member(text, key, value, NOWHERE)
    assert list(json.loads(changed).items()) == list((members | {key: value}).items())
    removed = remove_member(changed, key, NOWHERE)
    expected = {name: kept for name, kept in members.items() if name != key}
    assert list(json.loads(removed).items()) == list(expected.items())
    if members and key not in members:
        assert removed == text


# --- show, get -------------------------------------------------------------------------------


def test_show_is_the_same_as_nothing() -> None:
    Path("stt_config.json").write_text('{"threads": 3}')
    assert run("show").stdout == run().stdout
    assert run("show", "--json").stdout == run("--json").stdout
    assert run("--json", "show").stdout == run("--json").stdout


def test_get_prints_the_value_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("stt_config.json").write_text('{"threads": 3, "formats": ["txt", "srt"]}')
    monkeypatch.setenv("STT_STRICT", "1")
    values = {key: run("get", key).stdout for key in ("threads", "formats", "strict", "output_dir")}
    assert values == {
        "threads": "3\n",
        "formats": "txt,srt\n",
        "strict": "true\n",
        "output_dir": "null\n",
    }
    with pytest.raises(SettingsError, match="did you mean precision"):
        run("get", "precison")


def test_a_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("stt_config.json").write_text("{}")
    done = [run("set", "api_key", "xyzzy"), run(), run("--json"), run("get", "api_key")]
    assert json.loads(Path("stt_config.json").read_text()) == {"api_key": "xyzzy"}
    monkeypatch.setenv("STT_API_KEY", "xyzzy2")
    done += [run(), run("--json"), run("get", "api_key"), run("unset", "api_key")]
    assert not [one.output for one in done if "xyzzy" in one.output]
    assert all("(hidden)" in one.stdout for one in done[:-1])
    monkeypatch.delenv("STT_API_KEY")
    assert run("get", "api_key").stdout == "null\n"
    Path("stt_config.json").write_text('{"api_key": 5150}')
    with pytest.raises(SettingsError) as raised:
        run()
    assert "5150" not in str(raised.value)


# --- the local file --------------------------------------------------------------------------


def test_the_local_file_wins_and_is_what_is_changed() -> None:
    template = '{"local": "mine.json", "threads": 1, "precision": "fp16"}'
    Path("stt_config.json").write_text(template)
    assert run("get", "threads").stdout == "1\n"
    assert run("set", "threads", "2").stdout == "threads = 2 in mine.json\n"
    assert Path("stt_config.json").read_text() == template
    assert json.loads(Path("mine.json").read_text()) == {"threads": 2}
    assert run("get", "threads").stdout == "2\n"
    lines = filter(None, run().stdout.splitlines())
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    assert rows["threads"] == ["2", "mine.json"]
    assert rows["precision"] == ["fp16", "stt_config.json"]
    removed = run("unset", "threads").stdout
    assert removed == "threads removed from mine.json; stt_config.json sets it\n"
    assert "precision is not set in mine.json; stt_config.json sets it" in (
        run("unset", "precision").stdout
    )
    assert run("get", "threads").stdout == "1\n"


def test_a_local_file_beside_a_named_one(folder: Path) -> None:
    (folder / "deep").mkdir()
    path = folder / "deep" / "a.json"
    path.write_text('{"local": "b.json"}')
    run("set", "models_dir", "here", "--config", str(path))
    assert json.loads((folder / "deep" / "b.json").read_text()) == {"models_dir": "here"}
    document = json.loads(run("--json", "--config", str(path)).stdout)
    assert document["settings"]["models_dir"]["from"] == str(folder / "deep" / "b.json")


@pytest.mark.parametrize("name", ["1", '"../x.json"', '"stt_config.json"', '""', '"a/b.json"'])
def test_a_local_file_lies_beside_it(name: str) -> None:
    Path("stt_config.json").write_text(f'{{"local": {name}}}')
    with pytest.raises(SettingsError, match="name another file in the same folder"):
        run()


def test_wrong_values_in_the_local_file_are_told_with_its_name() -> None:
    Path("stt_config.json").write_text('{"local": "mine.json"}')
    Path("mine.json").write_text('{"precison": "fp16"}')
    with pytest.raises(SettingsError, match=r"mine\.json: precison: unknown key"):
        run()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_clone_stays_clean(folder: Path) -> None:
    """The repository's own files, in a repository of their own."""

    def git(*arguments: str) -> str:
        names = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        done = subprocess.run(
            ["git", *names, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout

    root = ROOT
    for name in ("stt_config.json", ".gitignore"):
        if not (root / name).exists():
            pytest.skip("no clone")
        shutil.copy(root / name, folder)
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "clone")
    run("set", "precision", "fp32")
    run("set", "model", "starter")
    run("unset", "model")
    assert git("status", "--porcelain") == ""
    assert run("get", "precision").stdout == "fp32\n"


def test_precision_changed_by_hand_counts(folder: Path) -> None:
    text = (ROOT / "stt_config.json").read_text("utf-8")
    (folder / "stt_config.json").write_text(
        text.replace('"precision": "auto"', '"precision": "int8"')
    )
    assert run("get", "precision").stdout == "int8\n"
