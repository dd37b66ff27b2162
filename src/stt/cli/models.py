"""`stt models`: what is installed and what could be; take one away."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stt.cli.config import FILE_OPTION, named_file, places_text
from stt.cli.output import columns
from stt.cli.parsing import installed
from stt.errors import ModelError, UsageError

if TYPE_CHECKING:
    from stt.install.locate import Item

_HEADINGS = ("name", "installed", "size", "languages", "licence")


@click.group(invoke_without_command=True)
@FILE_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_context
def models(context: click.Context, file: Path | None, as_json: bool) -> None:
    """List the models: what is installed, and what could be.

    \b
    stt models                           what is here, and what could be
    stt models remove parakeet-v2        delete one
    """
    if context.invoked_subcommand is not None:
        return
    from stt.install.locate import inventory
    from stt.settings.loading import load_settings

    places = load_settings(file).places
    items = inventory(places)
    if as_json:
        document = {
            "models": [_as_json(item) for item in items],
            "places": [str(place.folder) for place in places],
        }
        click.echo(json.dumps(document, ensure_ascii=False, indent=2))
        return
    click.echo("\n".join(columns([_HEADINGS, *map(_row, items)])))
    if damaged := [item for item in items if item.problem]:
        click.echo("".join(f"\n{item.name} cannot run: {item.problem}" for item in damaged))
    if there := [(f"  {item.name}", str(item.folder)) for item in items if item.folder]:
        click.echo("\n".join(("\ninstalled in", *columns(there))))
    click.echo(f"\n{places_text(places)}", nl=False)
    if missing := next((item.name for item in items if item.folder is None), None):
        click.echo(f"install one: stt setup {missing}")


@models.command("remove")
@click.argument("name", shell_complete=installed)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@FILE_OPTION
@click.pass_context
def remove_command(context: click.Context, name: str, yes: bool, file: Path | None) -> None:
    """Delete the installed model NAME.

    What an interrupted set-up of it left goes as well.

    \b
    stt models remove parakeet-v2
    """
    from stt.install.locate import lying, remove, size_of
    from stt.settings.loading import load_settings

    places = load_settings(named_file(context, file)).places
    found = list(lying(name, places))
    if not found:
        have = ", ".join(sorted(places.installed())) or "none"
        raise ModelError(
            f"no model named {name} is installed (installed: {have}); see `stt models`"
        )
    asked = sum(map(size_of, found))
    folders = " and ".join(str(folder) for folder in found)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"{folders}: say --yes to delete it; there is nobody to ask here")
        if not click.confirm(f"Delete {folders} ({shown_size(asked)})?"):
            click.echo(f"{name} is kept")
            return
    freed = sum(remove(folder) for folder in found)
    click.echo(f"{name} removed from {folders}; {shown_size(freed)} freed")
    if (other := places.find(name)) is not None:
        click.echo(f"{name} is in {other} as well, which is used now")


def shown_size(size: int) -> str:
    """Bytes for people: 2.5 GB, 152 MB, 0.9 MB."""
    if size >= 999_500_000:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 9_500_000 else f"{size / 1e6:.1f} MB"


def _as_json(item: Item) -> dict[str, Any]:
    return {
        "name": item.name,
        "folder": None if item.folder is None else str(item.folder),
        "precisions": list(item.precisions),
        "problem": item.problem,
        "bytes": item.size,
        "languages": item.languages or None,
        "licence": item.licence or None,
    }


def _row(item: Item) -> tuple[str, ...]:
    installed = "no" if item.folder is None else "damaged" if item.problem else ""
    return (
        item.name,
        installed or " ".join(item.precisions),
        shown_size(item.size),
        item.languages or "?",
        item.licence or "?",
    )
