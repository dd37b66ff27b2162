"""What the shell completes: models, settings and their values, formats with commas between them.

Click asks these when `_STT_COMPLETE` is set; nothing else loads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    _Formats = click.ParamType[tuple[str, ...]]
else:  # click before 8.5 has no type parameters
    _Formats = click.ParamType


def _those(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class FormatList(_Formats):
    """Formats with commas between them, in either letter case; comes out as a tuple."""

    name = "formats"

    def __init__(self, names: tuple[str, ...]) -> None:
        """`names`: the formats there are."""
        self.choice = click.Choice(names, case_sensitive=False)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Split and check; a format that does not exist is click's own error."""
        parts = str(value).split(",")
        return tuple(self.choice.convert(part.strip(), param, ctx) for part in parts)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete the format behind the last comma."""
        before, comma, last = incomplete.rpartition(",")
        found = _those(map(str, self.choice.choices), last.lower())
        return [CompletionItem(f"{before}{comma}{item.value}") for item in found]


_Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def one_of(*names: str) -> _Complete:
    """Return what completes an option that takes one of these, among others."""
    return lambda _, __, incomplete: _those(names, incomplete)


def some_of(*names: str) -> _Complete:
    """Return what completes the name behind the last comma."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(f"{before}{comma}{item.value}") for item in _those(names, last)]

    return complete


def installed(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a model that can be taken away."""
    return _those(_installed(), incomplete)


def models(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete `-m`: what is installed, else a folder."""
    from stt.engine.folder import STARTER

    return _with_folders({"auto", STARTER, *_installed()}, incomplete)


def installable(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete set-up's MODEL: what it knows by name, what is installed, else a folder."""
    from stt.install.catalog import KNOWN

    return _with_folders({*KNOWN, *_installed()}, incomplete)


def _with_folders(names: set[str], incomplete: str) -> list[CompletionItem]:
    found = _those(sorted(names), incomplete)
    return found or [CompletionItem(incomplete, type="dir")]


def _installed() -> list[str]:
    from stt.errors import SttError
    from stt.settings.loading import load_settings

    try:
        return sorted(load_settings().places.installed())
    except SttError:  # a broken settings file: the shell's line is no place to tell
        return []


def settings_keys(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete KEY with the settings there are."""
    from stt.settings.schema import Settings

    return [
        CompletionItem(key, help=(field.description or "").replace("`", ""))
        for key, field in Settings.model_fields.items()
        if key.startswith(incomplete)
    ]


def setting_values(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete VALUE with what the setting KEY may be, where that can be listed."""
    from stt.settings.schema import choices_of

    key = ctx.params.get("key") or ""
    if key == "model":
        return models(ctx, param, incomplete)
    if key in ("models_dir", "output_dir"):
        return [CompletionItem(incomplete, type="dir")]
    return _those(choices_of(key), incomplete)
