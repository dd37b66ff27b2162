"""`--help`: nothing is cut off, every command has an example, on a terminal of 80 columns."""

from __future__ import annotations

import re

import click
import pytest
from click.testing import CliRunner

from stt.cli import stt as command_line


def commands(group: click.Group = command_line, name: str = "") -> list[str]:
    """Every command and command of a command, as a user writes them behind `stt`."""
    found = []
    for key, command in group.commands.items():
        found.append(f"{name}{key}")
        if isinstance(command, click.Group):
            found += commands(command, f"{name}{key} ")
    return found


def shown(name: str) -> str:
    result = CliRunner().invoke(command_line, [*name.split(), "--help"], terminal_width=80)
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize("name", ["", *commands()])
def test_no_line_is_cut_off_or_too_wide(name: str) -> None:
    lines = shown(name).splitlines()
    assert not [line for line in lines if len(line) > 80]
    assert not [line for line in lines if line.startswith("  ") and line.endswith("...")]


@pytest.mark.parametrize("name", commands())
def test_every_command_shows_an_example(name: str) -> None:
    assert re.search(rf"^  stt {name}\b.*", shown(name), re.MULTILINE)


def test_live_names_every_format_it_saves() -> None:
    from stt.transcript import FORMAT_NAMES

    text = " ".join(shown("live").split())
    assert all(f".{form}" in text for form in FORMAT_NAMES)
