"""`stt bench`: how fast, beside other engines."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stt.cli.output import columns
from stt.cli.parsing import CONFIG_OPTION, MODEL_OPTION, QUIET_OPTION, some_of
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
            message = f"give one or more whole numbers from {least} to {most}, e.g. 1,4,16"
            raise click.BadParameter(message, param=option)
        return numbers

    return parse


@click.command()
@MODEL_OPTION
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
    shell_complete=some_of("onnx-asr", "sherpa-onnx"),
    help="onnx-asr, or with another model's files; sherpa-onnx=DIR.",
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
    """Measure the speed, load time and memory of a model's precisions.

    Recordings go from file to text, in three rounds through all engines and precisions, so that a
    busy machine slows all alike; the table shows medians. With the bundled recordings the rounds
    take some 3 minutes: of a slow model fewer are taken, or shorter ones.

    \b
    stt bench -m parakeet --threads 1,4
    """
    from dataclasses import asdict

    from stt.bench import Plan
    from stt.bench import bench as measure
    from stt.bench.contenders import contenders
    from stt.install.installation import Events
    from stt.install.locate import locate
    from stt.settings.loading import load_settings

    loaded = load_settings(config, {} if model is None else {"model": model})
    threads = threads or (loaded.settings.threads,)
    with StageProgress(quiet=quiet) as stages:
        folder = locate(loaded.settings.model, loaded.places, stages)
    others = tuple(part for part in against.split(",") if part)
    found = contenders(folder, others, provider, loaded.places)
    with SetupProgress(quiet=quiet) as progress:
        events = Events(progress, progress.note, progress.left)
        result = measure(Plan(found, batches, threads, provider, audio), events)
    click.echo(json.dumps(asdict(result), indent=2) if as_json else table(result))
    return 0


def table(result: Result) -> str:
    """Return the result for people: a sentence, what each run took, and on what; 80 columns."""
    first, names = result.runs[0], _names(result.runs)
    shown = dict(zip(names, result.runs, strict=True))
    about = ", ".join(f"{key} {value}" for key, value in result.machine.items())
    how = f"provider {first.provider}; {first.recordings} recordings a round, "
    how += f"{first.audio_s:.0f} s of audio"
    if result.reference:
        how += f"; ratio: beside {result.reference}"
    legend = [f"{name}  {_about(run)}" for name, run in shown.items() if name != run.precision]
    speeds: list[tuple[str, ...]] = [
        ("", "RTFx", "slowest - fastest", "ratio", "CPU", "load s", "first s", "MiB")
    ]
    speeds += [(name, *_speed(run)) for name, run in shown.items()]
    return "\n".join(
        (
            sentence(result),
            "",
            *textwrap.wrap(about, 80),
            *textwrap.wrap(how, 80),
            *legend,
            "",
            *_columns(speeds),
            "",
            "CPU: milliseconds of processor time, of all cores, per second of audio",
        )
    )


def sentence(result: Result) -> str:
    """Say how long an hour of audio takes with the fastest run of this application."""
    ours = [run for run in result.runs if run.engine == "stt"] or list(result.runs)
    best = max(ours, key=lambda run: run.rtfx)
    seconds = 3600 / best.rtfx
    time_taken = f"{seconds / 3600:.1f} hours"
    if seconds < 5400:
        time_taken = f"{seconds / 60:.1f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"
    return f"An hour of audio takes {time_taken} here ({best.model}, {best.precision})."


def _names(runs: Sequence[Run]) -> list[str]:
    """Return a short name for each run: its precision, or a number where that is not enough."""
    precisions = [run.precision for run in runs]
    if len(set(precisions)) == len(runs) and len({run.engine for run in runs}) == 1:
        return precisions
    return [str(number) for number in range(1, len(runs) + 1)]


def _about(run: Run) -> str:
    threads = f"{run.threads} threads" if run.threads else "threads by itself"
    return f"{run.engine} {run.model} {run.precision}, {threads}, batch {run.batch}"


def _speed(run: Run) -> tuple[str, ...]:
    return (
        f"{run.rtfx:.1f}",
        f"{run.rtfx_min:.1f} - {run.rtfx_max:.1f}",
        "" if run.ratio is None else f"{run.ratio:.2f}",
        f"{run.cpu_ms_per_s:.1f}",
        f"{run.load_s:.1f}",
        f"{run.first_result_s:.1f}",
        "" if run.peak_mib is None else f"{run.peak_mib:,.0f}",
    )


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns, the first to the left; one that is empty below its heading is left out."""
    kept = [n for n in range(len(rows[0])) if n == 0 or any(row[n] for row in rows[1:])]
    return columns([[row[n] for n in kept] for row in rows], right=True)
