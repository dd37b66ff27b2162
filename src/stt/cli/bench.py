"""`stt bench`: how fast, stage by stage, beside other engines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stt.cli.completion import models
from stt.cli.model import CONFIG_OPTION, QUIET_OPTION
from stt.cli.progress import SetupProgress, StageProgress

if TYPE_CHECKING:
    from stt.bench import Result, Run


_MOST = 128
"""Recordings handed over at a time, as the setting `batch_size`."""


_MOST_THREADS = 1024


_Parse = Callable[[click.Context, click.Parameter, str | None], tuple[int, ...] | None]


def _numbers(least: int, most: int) -> _Parse:
    """Return what reads whole numbers with commas between them; they come out rising."""

    def parse(
        _: click.Context, option: click.Parameter, value: str | None
    ) -> tuple[int, ...] | None:
        if value is None:
            return None
        try:
            numbers = tuple(sorted({int(part) for part in value.split(",")}))
        except ValueError:
            numbers = ()
        if not numbers or numbers[0] < least or numbers[-1] > most:
            told = f"give one or more whole numbers from {least} to {most}, e.g. 1,4,16"
            raise click.BadParameter(told, param=option)
        return numbers

    return parse


@click.command()
@click.option(
    "-m",
    "--model",
    metavar="NAME|DIR",
    shell_complete=models,
    help="auto, an installed model, or a folder.",
)
@click.option(
    "--audio",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of recordings.  [default: the bundled ones]",
)
@click.option(
    "--batch",
    "batches",
    default="1",
    metavar="N[,N...]",
    callback=_numbers(1, _MOST),
    help="Recordings handed over at a time.  [default: 1]",
)
@click.option(
    "--threads",
    metavar="N[,N...]",
    callback=_numbers(0, _MOST_THREADS),
    help="0: ONNX Runtime decides.  [default: as set, or 0]",
)
@click.option(
    "--against",
    default="",
    metavar="ENGINE[=NAME|DIR][,...]",
    help="onnx-asr, sherpa-onnx; with the files of another model.",
)
@click.option("--provider", type=click.Choice(("cpu", "cuda", "tensorrt")), default="cpu")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@CONFIG_OPTION
@QUIET_OPTION
def bench(
    *,
    model: str | None,
    audio: Path | None,
    batches: tuple[int, ...],
    threads: tuple[int, ...] | None,
    against: str,
    provider: str,
    as_json: bool,
    config: Path | None,
    quiet: bool,
) -> int:
    """Measure a model: speed, stage by stage, load time and memory.

    Every precision that is installed is measured.

    Recordings of 28 s go from file to text, in rounds through all engines and precisions, so that
    a busy machine slows all alike. The table shows medians of three rounds.

    \b
    stt bench -m parakeet --threads 1,4
    """
    from stt.bench import Plan, contenders
    from stt.bench import bench as measure
    from stt.models.locate import locate
    from stt.settings import load_settings

    loaded = load_settings(config, {} if model is None else {"model": model})
    threads = threads or (loaded.settings.threads,)
    stages = StageProgress(quiet=quiet)
    try:
        folder = locate(loaded.settings.model, loaded.places, stages)
    finally:
        stages.close()
    others = tuple(part for part in against.split(",") if part)
    found = contenders(folder, others, provider, loaded.places)
    progress = SetupProgress(quiet=quiet)
    try:
        result = measure(Plan(found, batches, threads, provider, audio), progress)
    finally:
        progress.close()
    click.echo(json.dumps(result.as_json(), indent=2) if as_json else table(result))
    return 0


_STAGES = ("features", "encoder", "decoding", "other")
_HEADINGS = (
    *("engine", "model", "precision", "threads", "batch"),
    *("RTFx", "(slowest - fastest)", "ratio"),
    *_STAGES,
    *("CPU", "load s", "first s", "MiB"),
)


def table(result: Result) -> str:
    """Return the result as a Markdown table, the machine above it."""
    told = ", ".join(f"{key} {value}" for key, value in result.machine.items())
    first = result.runs[0]
    rows = [_HEADINGS, *(_row(run) for run in result.runs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    beside = f"ratio: beside {result.reference}; " if result.reference else ""
    return "\n".join(
        (
            f"{told}",
            f"provider {first.provider}, {first.audio_s:.0f} s of audio a round; {beside}stages "
            "and CPU time in ms per second of audio, of all threads together",
            "",
            lines[0],
            rule,
            *lines[1:],
        )
    )


def _row(run: Run) -> tuple[str, ...]:
    stages = run.ms_per_s or {}
    shown = (f"{stages[name]:.2f}" if name in stages else "" for name in _STAGES)
    return (
        run.engine,
        run.model,
        run.precision,
        str(run.threads or "auto"),
        str(run.batch),
        f"{run.rtfx:.1f}",
        f"({run.rtfx_min:.1f} - {run.rtfx_max:.1f})",
        "" if run.ratio is None else f"{run.ratio:.2f}",
        *shown,
        f"{run.cpu_ms_per_s:.1f}",
        f"{run.load_s:.1f}",
        f"{run.first_result_s:.1f}",
        "" if run.peak_mib is None else f"{run.peak_mib:,.0f}",
    )
