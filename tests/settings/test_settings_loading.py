"""Where settings come from, which wins, and what is said of a wrong one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from stt.errors import SettingsError
from stt.settings import loading as settings
from stt.settings import places
from stt.settings.loading import (
    LoadedSettings,
    Settings,
    find_config,
    load_settings,
    parse_value,
)
from stt.settings.schema import allowed, plain, schemas
from support.paths import ROOT

USER_CONFIG = Path("user") / "stt_config.json"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, no_variables: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings, "user_config", lambda: tmp_path / USER_CONFIG)
    return tmp_path


def write(values: dict[str, Any] | str, path: Path = Path("stt_config.json")) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(values if isinstance(values, str) else json.dumps(values), "utf-8")
    return path


def complaint(**flags: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, flags)
    assert caught.value.exit_code == 2
    return str(caught.value).splitlines()


# --- precedence ------------------------------------------------------------------------------


def test_defaults() -> None:
    loaded = load_settings()
    assert loaded.settings == Settings()
    assert loaded.config_path is None
    assert set(loaded.origins.values()) == {"default"}
    assert list(loaded.origins) == list(Settings.model_fields)


def test_each_source_beats_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    write({"threads": 1, "batch_size": 1, "vad_threshold": 0.1})
    monkeypatch.setenv("STT_THREADS", "2")
    monkeypatch.setenv("STT_BATCH_SIZE", "2")
    loaded = load_settings(flags={"threads": 3, "precision": None})
    found = loaded.settings
    assert (found.threads, found.batch_size, found.vad_threshold) == (3, 2, 0.1)
    assert {key: loaded.origins[key] for key in ("threads", "batch_size", "vad_threshold")} == {
        "threads": "flag",
        "batch_size": "environment STT_BATCH_SIZE",
        "vad_threshold": "stt_config.json",
    }
    assert loaded.origins["precision"] == "default"


def test_a_wrong_value_is_reported_even_where_another_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    write({"threads": "many"})
    assert complaint(threads=3) == [
        "stt_config.json: threads: 'many' is not allowed; choose a whole number from 0 to 1024"
    ]


def test_settings_alone_read_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    write({"threads": 1})
    monkeypatch.setenv("STT_THREADS", "2")
    assert Settings().threads == 0
    assert Settings(threads=4).threads == 4


@pytest.mark.parametrize(
    ("text", "formats"),
    [
        ("txt,srt", ("txt", "srt")),
        (" vtt , txt ", ("vtt", "txt")),
        ('["json"]', ("json",)),
        ("srt,srt,txt", ("srt", "txt")),
    ],
)
def test_formats_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, text: str, formats: tuple[str, ...]
) -> None:
    monkeypatch.setenv("STT_FORMATS", text)
    assert load_settings().settings.formats == formats


def test_texts_of_the_environment_and_flags_are_read_as_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STT_STRICT", "yes")
    monkeypatch.setenv("STT_MAX_SEGMENT_S", "12.5")
    monkeypatch.setenv("STT_MODEL", "")
    found = load_settings(
        flags={"formats": "txt,vtt", "output_dir": Path("out"), "threads": "2"}
    ).settings
    assert (found.strict, found.max_segment_s, found.model) == (True, 12.5, "auto")
    assert (found.formats, found.output_dir, found.threads) == (("txt", "vtt"), "out", 2)


# --- which file ------------------------------------------------------------------------------


def test_where_the_file_is_looked_for(monkeypatch: pytest.MonkeyPatch, empty_folder: Path) -> None:
    assert find_config() is None
    user = write({}, empty_folder / USER_CONFIG)
    assert find_config() == user
    here = write({})
    assert find_config() == here
    variable = write({}, Path("variable.json"))
    monkeypatch.setenv("STT_CONFIG", str(variable))
    assert find_config() == variable
    flag = write({}, Path("flag.json"))
    assert find_config(flag) == flag


def test_mixed_of_older_files_is_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    write({"precision": "mixed"})
    assert load_settings().settings.precision == "fp16"
    monkeypatch.setenv("STT_PRECISION", "mixed")
    assert load_settings().settings.precision == "fp16"


def test_a_file_named_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"^flag --config: gone\.json is not a file"):
        load_settings(Path("gone.json"))
    monkeypatch.setenv("STT_CONFIG", "gone.json")
    with pytest.raises(SettingsError, match=r"^environment: STT_CONFIG: gone\.json is not a file"):
        load_settings()


def test_the_models_folder(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "user_models", lambda: empty_folder / "data")
    monkeypatch.setattr(places, "clone_models", lambda: None)
    data = empty_folder / "data"

    def folders(config: Path | None = None, **flags: object) -> list[Path]:
        return [place.folder for place in load_settings(config, flags).places]

    assert folders() == [data]
    write({}, empty_folder / USER_CONFIG)
    assert folders() == [data]
    write({})
    assert folders() == [empty_folder / "models", data]
    assert load_settings().places.new == data
    sub = write({"models_dir": "elsewhere"}, Path("sub/stt_config.json"))
    assert folders(sub) == [empty_folder / "sub/elsewhere", data]
    assert folders(models_dir="here") == [empty_folder / "here", data]
    write({"models_dir": "big"}, empty_folder / USER_CONFIG)
    users = (empty_folder / USER_CONFIG).parent / "big"
    assert folders() == [empty_folder / "models", users, data], "a file in force hides it not"
    assert load_settings().places.new == users
    (empty_folder / USER_CONFIG).write_text("{")
    assert folders() == [empty_folder / "models", data]


def test_folders_in_the_file_count_from_it(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(empty_folder / "home"))
    monkeypatch.setenv("USERPROFILE", str(empty_folder / "home"))
    path = write({"output_dir": "~/out", "model": "my/model"}, Path("sub/a.json"))
    found = load_settings(path).settings
    assert found.output_dir == str(empty_folder / "home" / "out")
    assert found.model == str(empty_folder / "sub" / "my" / "model")
    assert load_settings(write({"model": "parakeet"})).settings.model == "parakeet"


def test_a_byte_order_mark_and_an_empty_file_are_fine() -> None:
    write('\ufeff{"threads": 2}')
    assert load_settings().settings.threads == 2
    write("\n")
    assert load_settings().settings == Settings()


# --- wrong values ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("precision", "fp15", "'fp15' is not allowed; choose auto, fp16, fp32 or int8"),
        ("strict", 1, "1 is not allowed; choose true or false"),
        ("threads", "4", "'4' is not allowed; choose a whole number from 0 to 1024"),
        ("threads", -1, "-1 is not allowed; choose a whole number from 0 to 1024"),
        ("batch_size", True, "true is not allowed; choose auto, or a whole number from 1 to 128"),
        ("batch_size", None, "null is not allowed; choose auto, or a whole number from 1 to 128"),
        ("max_segment_s", 500, "500 is not allowed; choose a number from 5 to 400"),
        ("max_segment_s", float("nan"), "NaN is not allowed; choose a number from 5 to 400"),
        ("vad_threshold", [0.5], "[0.5] is not allowed; choose a number from 0.05 to 0.95"),
        ("model", "", "'' is not allowed; choose a name or a path"),
        ("models_dir", 3, "3 is not allowed; choose a name or a path, or null"),
        (
            "formats",
            "txt",
            "'txt' is not allowed; choose a list of one or more of txt, srt, vtt, ass, json or tsv",
        ),
        (
            "formats",
            [],
            "[] is not allowed; choose a list of one or more of txt, srt, vtt, ass, json or tsv",
        ),
        ("formats", ["doc"], "'doc' is not allowed; choose txt, srt, vtt, ass, json or tsv"),
        ("precison", "fp16", "unknown key; did you mean precision?"),
    ],
)
def test_a_wrong_value_in_the_file(key: str, value: object, said: str) -> None:
    write({key: value})
    assert complaint() == [f"stt_config.json: {key}: {said}"]


def test_an_unknown_key_like_no_other_lists_all() -> None:
    write({"colour": "red"})
    (line,) = complaint()
    assert line.startswith("stt_config.json: colour: unknown key; the keys are model, models_dir, ")


def test_all_problems_of_all_sources_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    write({"precision": "fp15", "threads": -1})
    monkeypatch.setenv("STT_VAD_THRESHOLD", "loud")
    assert complaint(provider="gpu", formats=("txt", "pdf")) == [
        "stt_config.json: precision: 'fp15' is not allowed; choose auto, fp16, fp32 or int8",
        "stt_config.json: threads: -1 is not allowed; choose a whole number from 0 to 1024",
        "environment: STT_VAD_THRESHOLD: 'loud' is not allowed; choose a number from 0.05 to 0.95",
        "flag --provider: 'gpu' is not allowed; "
        "choose auto, cpu, cuda, tensorrt, directml or coreml",
        "flag --format: 'pdf' is not allowed; choose txt, srt, vtt, ass, json or tsv",
    ]


@pytest.mark.parametrize(
    ("variable", "meant"),
    [("STT_PRECISON", "STT_PRECISION"), ("STT_MODEL_DIR", "STT_MODELS_DIR")],
)
def test_a_variable_misspelt(monkeypatch: pytest.MonkeyPatch, variable: str, meant: str) -> None:
    monkeypatch.setenv(variable, "x")
    assert complaint() == [f"environment: {variable}: unknown key; did you mean {meant}?"]


def test_variables_that_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("STT_DEBUG", "STT_SERVER_URL", "STTY", "PRECISON"):
        monkeypatch.setenv(variable, "1")
    assert load_settings().settings == Settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\n  "threads": 1\n  "strict": true\n}', "line 3, column 3: not valid JSON: "),
        ("[1]", "must hold an object"),
        ('{"threads": 1, "threads": 2}', "threads: is there twice; delete one"),
        ("[" * 200_000, "not usable JSON: "),
    ],
)
def test_broken_json(text: str, said: str) -> None:
    write(text)
    (line,) = complaint()
    assert line.startswith(f"stt_config.json: {said}")


def test_a_file_that_is_no_text() -> None:
    Path("stt_config.json").write_bytes(b'{"model": "\xff"}')
    (line,) = complaint()
    assert line.startswith("stt_config.json: is not UTF-8 text (byte 11)")


def test_a_path_with_braces_is_named_as_it_is() -> None:
    path = write({"threads": -1}, Path("{key}.json"))
    with pytest.raises(SettingsError, match=r"^\{key\}\.json: threads: "):
        load_settings(path)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("threads", "4", 4),
        ("max_segment_s", "20", 20),
        ("max_segment_s", "12.5", 12.5),
        ("strict", "true", True),
        ("formats", "txt,srt", ["txt", "srt"]),
        ("models_dir", "null", None),
        ("model", "null", "null"),
        ("precision", "fp32", "fp32"),
    ],
)
def test_parse_value(key: str, text: str, value: object) -> None:
    parsed = parse_value(key, text)
    assert (parsed, type(parsed)) == (value, type(value))


def test_parse_value_refuses() -> None:
    with pytest.raises(SettingsError, match=r"^here: threads: '-3' is not allowed"):
        parse_value("threads", "-3", "here: ")
    with pytest.raises(SettingsError, match=r"^treads: unknown key; did you mean threads\?"):
        parse_value("treads", "3")


def test_the_shipped_file_holds_defaults() -> None:
    shipped = json.loads((ROOT / "stt_config.json").read_text("utf-8"))
    defaults = Settings().model_dump(mode="json")
    assert shipped.pop("local") == "stt_config.local.json"
    assert shipped == {key: defaults[key] for key in shipped}
    assert list(shipped) == [key for key in defaults if key in shipped]
    loaded = load_settings(ROOT / "stt_config.json")
    assert isinstance(loaded, LoadedSettings)
    assert loaded.settings == Settings()


def settings_table() -> str:
    """The table of settings in docs/settings.md, in Markdown."""
    rows = ["| key | default | allowed | meaning |", "|---|---|---|---|"]
    for key, field in Settings.model_fields.items():
        schema = schemas()[key]
        default = json.dumps(plain(schema["default"]))
        rows.append(f"| `{key}` | `{default}` | {allowed(schema)} | {field.description} |")
    return "\n".join(rows) + "\n"


def test_the_page_of_settings_has_the_table() -> None:
    path = ROOT / "docs" / "settings.md"
    before, begin, rest = path.read_text("utf-8").partition("<!-- settings -->\n")
    table, end, after = rest.partition("<!-- /settings -->")
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(before + begin + settings_table() + end + after, "utf-8")
    assert table == settings_table()
    assert all(field.description for field in Settings.model_fields.values())


def test_a_card_is_handed_more_at_a_time_than_a_processor() -> None:
    assert [Settings().utterances(provider) for provider in ("cpu", "cuda")] == [4, 64]
    assert Settings(batch_size=7).utterances("cuda") == 7
