"""A user without a home: HOME is not set, and no passwd entry knows the number."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import platformdirs
import pytest

from stt.audio.recording import recordings_dir
from stt.cli import main
from stt.errors import SettingsError
from stt.settings.loading import load_settings
from stt.system import files
from support.paths import DIGITS

CLIP = DIGITS / "clips" / "two-digits.flac"


@pytest.fixture(params=[RuntimeError("no home"), KeyError("uid not found: 54321")])
def homeless(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Path:
    """What platformdirs and pathlib raise then, in an empty folder."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise request.param

    for name in ("user_config_path", "user_data_path", "user_state_path"):
        monkeypatch.setattr(platformdirs, name, refuse)
    monkeypatch.setattr(Path, "expanduser", lambda path: refuse() if "~" in path.parts else path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_settings_are_those_of_the_folder(homeless: Path) -> None:
    (homeless / "stt_config.json").write_text('{"precision": "fp32"}')
    loaded = load_settings()
    assert loaded.settings.precision == "fp32"
    assert loaded.places.all[0].folder == homeless / "models"


def test_where_no_home_is_needed_it_works(
    homeless: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STT_MODELS_DIR", str(homeless))
    assert main(["config"]) == 0
    assert "models_dir" in capsys.readouterr().out
    assert main(["transcribe", "-q", "-m", str(DIGITS), str(CLIP)]) == 0
    assert capsys.readouterr().out == "one two\n"


@pytest.mark.parametrize(
    ("ask", "cure"),
    [
        (recordings_dir, "set HOME"),
        (lambda: files.expanded(Path("~/models")), "whole path"),
    ],
)
def test_else_the_error_says_what_to_set(
    homeless: Path, ask: Callable[[], object], cure: str
) -> None:
    with pytest.raises(SettingsError, match=rf"^this user has no home folder, and .*{cure}"):
        ask()


def test_a_setting_needs_a_file(homeless: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "set", "precision", "fp32"]) == 2
    assert "add --config FILE" in capsys.readouterr().err
    assert main(["config", "set", "precision", "fp32", "--config", str(homeless / "a.json")]) == 0


@pytest.mark.e2e
@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="becomes another user",
)
def test_the_command_as_a_number_without_a_name(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [
            *("env", "-i", f"PATH={os.environ['PATH']}", "setpriv", "--reuid=54321"),
            *("--regid=54321", "--clear-groups", sys.executable, "-m", "stt", "config"),
        ],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if "Permission denied" in done.stderr or "No module named" in done.stderr:
        pytest.skip("the environment lies where only root may read")
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    assert done.returncode in (0, 2)
    assert len(done.stderr.splitlines()) <= 1
