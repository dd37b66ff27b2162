"""`stt setup`: fetch a model, convert it, prove it, install it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from stt.cli import outcomes
from stt.cli.output import columns, report
from stt.cli.parsing import CONFIG_OPTION, QUIET_OPTION, installable, some_of
from stt.cli.progress import SetupProgress
from stt.errors import ModelError, UsageError

if TYPE_CHECKING:
    from stt.install.installation import Events
    from stt.install.setup import SetupOptions
    from stt.settings.places import Places

NO_PRECISION = "fp32"
Say = Callable[[str], None]
"""Prints a line on stdout, once no bar stands there."""
THOROUGH_S = 399.0
"""Seconds of the longest audio that --thorough proves on: the position table ends at 400."""


@click.command()
@click.argument("model", default="parakeet", metavar="[MODEL]", shell_complete=installable)
@click.option(
    "--precision",
    default="fp16",
    metavar="P[,P...]",
    shell_complete=some_of("fp16", "int8", "mixed", NO_PRECISION),
    help="What to make of FP32: fp16; int8; mixed, which is fp16 with the fewest parts in fp32 for "
    "which --rtol and --atol hold; fp32 for none.  [default: fp16]",
)
@click.option(
    "--from",
    "origin",
    metavar="DIR|HUB_ID[@REV]",
    help="A folder with the files, or another repository.",
)
@click.option("--offline", is_flag=True, help="Ask nothing of the network.")
@click.option("--force", is_flag=True, help="Convert, prove and measure again.")
@click.option(
    "--keep-fp32/--no-keep-fp32",
    default=None,
    help="Keep FP32 beside what is proven.  [default: keep, or as last told for this model]",
)
@click.option("--keep-failed", is_flag=True, help="Keep a conversion that failed, to inspect it.")
@click.option(
    "--rtol", type=float, default=0.02, help="For mixed: tolerance, relative.  [default: 0.02]"
)
@click.option(
    "--atol",
    type=float,
    help="For mixed: tolerance, absolute.  [default: rtol times the output's size]",
)
@click.option(
    "--thorough",
    is_flag=True,
    help="Prove on audio of up to 399 s, not only of utterances' lengths: minutes more, and 16 GB "
    "of memory.",
)
@click.option(
    "--provider",
    type=click.Choice(["auto", "cuda"]),
    default="auto",
    help="cuda: make what only CUDA runs too, though no card is here.  [default: auto]",
)
@click.option("--check", is_flag=True, help="Only verify what is installed; change nothing.")
@click.option("--quick", is_flag=True, help="With --check: files and one clip, no proofs.")
@CONFIG_OPTION
@QUIET_OPTION
def setup(
    *,
    model: str,
    precision: str,
    origin: str | None,
    offline: bool,
    force: bool,
    keep_fp32: bool | None,
    keep_failed: bool,
    provider: str,
    rtol: float,
    atol: float | None,
    thorough: bool,
    check: bool,
    quick: bool,
    config: Path | None,
    quiet: bool,
) -> int:
    """Download a model, convert, prove and install it.

    MODEL is parakeet (v3, the default), parakeet-ultra, parakeet-v2, starter, an
    installed model, a folder in onnx-asr's layout, or OWNER/REPO[/DIR][@REVISION]
    on the hub. An interrupted set-up goes on where it stopped when run again; on an
    installed model it repairs what is damaged and adds what is missing.

    \b
    stt setup                            Parakeet v3, in FP16
    stt setup --precision fp16,int8      INT8 too
    stt setup parakeet --check           is all as it was proven?
    stt setup parakeet --check --quick   are the files whole, does it run?
    """
    from stt.engine.manifest import Manifest
    from stt.install.installation import Events
    from stt.install.setup import SetupOptions
    from stt.settings.loading import load_settings

    outcomes.drop_stdout_if_closed()
    loaded = load_settings(config, {})
    places, settings = loaded.places, loaded.settings
    progress = SetupProgress(quiet=quiet)
    runs: list[Path] = []

    def installed(folder: Path) -> None:
        runs.append(folder)
        command = _transcribe(settings.model, folder, places)
        progress.note(f"installed in {folder}")
        progress.note(
            f"`{command} FILE` runs from now on, in FP32; what follows makes it faster, and each "
            "step counts when it is proven"
        )

    events = Events(progress, progress.note, progress.left, installed)
    longest_s = THOROUGH_S if thorough else settings.max_segment_s
    try:
        if quick and not check:
            raise UsageError("--quick goes with --check: `stt setup --check --quick`")
        if model == "starter":
            if quick:
                found = places.find(model) or places.new / model
                return _check_quickly(found, events, progress.say)
            code = _starter(places, events, progress.say, precision, check=check, force=force)
            if not check:
                folder = places.target(model) / model
                progress.say(_how_to_run(settings.model, folder, places, config))
            return code
        if check:
            folder = places.find(Path(model).name) or places.new / Path(model).name
            if quick:
                return _check_quickly(folder, events, progress.say)
            return _check(folder, events, progress.say, longest_s)
        if not precision:
            raise UsageError("--precision is empty; name fp16, int8, mixed, or fp32 for none")
        named = [p for p in precision.split(",") if p != NO_PRECISION]
        precisions = tuple(dict.fromkeys("fp16" if p == "mixed" else p for p in named))
        order = SetupOptions(
            precisions,
            offline,
            force,
            keep_fp32,
            keep_failed,
            provider=provider,
            search="mixed" in named,
            rtol=rtol,
            atol=atol,
            longest_s=longest_s,
        )
        order.check()
        folder = _install(model, origin, places, order, events)
    except KeyboardInterrupt:
        progress.close()
        runs_already = "the model is installed and runs in FP32; " if runs else ""
        report(f"stopped; {runs_already}run the same command again, it goes on where it stopped")
        return 130
    finally:
        progress.close()
    click.echo(_summary(folder))
    click.echo(_told_place(folder, places))
    click.echo(_how_to_run(settings.model, folder, places, config))
    made = Manifest.read(folder).precisions
    return 0 if all(made.get(each, {}).get("proven") for each in precisions) else 1


def _install(
    model: str, origin: str | None, places: Places, order: SetupOptions, events: Events
) -> Path:
    from stt.install.setup import set_up
    from stt.install.source import find_source

    source = find_source(model, origin, places, offline=order.offline)
    revision = f" at revision {source.pinned.revision[:12]}" if source.pinned else ""
    size = f"{source.size / 1e9:.2f} GB" if source.size >= 1e8 else f"{source.size / 1e6:.1f} MB"
    events.note(f"{source.name} from {source.origin}{revision}, {size}")
    return set_up(source, places.target(source.name), order, events)


def _runs_plain(chosen: str, folder: Path, places: Places) -> bool:
    """Whether `stt transcribe` without `-m` takes this folder's model, as `locate` finds it."""
    from stt.install.catalog import KNOWN

    if chosen == "auto":
        chosen = next((name for name in KNOWN if places.find(name)), "")
    found = places.find(chosen) or Path(chosen).expanduser()
    return found.resolve() == folder.resolve()


def _transcribe(chosen: str, folder: Path, places: Places) -> str:
    """The command that transcribes with this folder's model."""
    plain = _runs_plain(chosen, folder, places)
    return "stt transcribe" if plain else f"stt transcribe -m {shlex.quote(folder.name)}"


def _how_to_run(chosen: str, folder: Path, places: Places, config: Path | None) -> str:
    """The last line: that plain `stt transcribe` takes the model, or what makes it so."""
    if _runs_plain(chosen, folder, places):
        return "`stt transcribe FILE` takes this model"
    file = f" --config {shlex.quote(str(config))}" if config else ""
    return (
        f"`{_transcribe(chosen, folder, places)} FILE` takes this model; without -m too after\n"
        f"stt config set model {shlex.quote(folder.name)}{file}"
    )


_NOT_FOR_STARTER = ("--from", "--keep-fp32", "--keep-failed", "--rtol", "--atol", "--thorough")


def _starter(
    places: Places, events: Events, say: Say, precision: str, *, check: bool, force: bool
) -> int:
    from stt.install import starter

    context, default = click.get_current_context(), click.core.ParameterSource.DEFAULT
    source_of = context.get_parameter_source
    for parameter in context.command.params:
        option = parameter.opts[0]
        if option in _NOT_FOR_STARTER and source_of(parameter.name or "") is not default:
            raise UsageError(
                f"{option} does not go with starter: it is built from an installed package"
            )
    asked = "" if source_of("precision") is default else precision
    wanted = tuple(p for p in asked.split(",") if p and p != NO_PRECISION)
    starter.check_order(wanted)
    found = places.find("starter") if check else None
    models_dir = found.parent if found else places.target("starter")
    if check:
        starter.verify_starter(models_dir)
        if wrong := starter.check(models_dir / "starter", events):
            raise ModelError(f"{models_dir / 'starter'}: {'; '.join(wrong)}")
        say("starter: every file is as it was made")
        return 0
    folder = starter.ensure_starter(
        models_dir, progress=events.progress, contents=True, again=force
    )
    proven = True
    if wanted:
        proven = starter.add(folder, wanted, events, force=force)
        say(_summary(folder))
    say(_told_place(folder, places))
    return 0 if proven else 1


def _told_place(folder: Path, places: Places) -> str:
    return f"installed in {folder.absolute()}, {places.described_reach(folder.absolute().parent)}"


def _check_quickly(folder: Path, events: Events, say: Say) -> int:
    from stt.install.prover import check_quickly

    wrong, heard = check_quickly(folder, events)
    _refuse(folder, wrong)
    say(f"{folder.name}: every file is as it was installed; {heard}")
    return 0


def _refuse(folder: Path, wrong: Sequence[str]) -> None:
    """Tell what a check found wrong."""
    from stt.engine.folder import STARTER
    from stt.engine.manifest import Manifest

    for line in wrong:
        report(f"{folder}: {line}")
    if wrong:
        made = Manifest.read(folder).precisions if folder.name == STARTER else {}
        again = f"`stt setup {folder.name}`"
        if made:  # set-up makes none of them unasked
            again = f"`stt setup starter --precision {','.join(made)}`"
        raise ModelError(
            f"{folder}: {len(wrong)} problem{'s' * (len(wrong) > 1)}; {again} repairs: only what "
            "is damaged is fetched or made again"
        )


def _check(folder: Path, events: Events, say: Say, longest_s: float) -> int:
    from stt.engine.manifest import Manifest
    from stt.install.prover import check
    from stt.models import inspect

    _refuse(folder, check(folder, events, longest_s=longest_s))
    proven = ""
    if Manifest.read(folder).precisions:
        proven = ", every conversion proven again"
        if inspect(folder).problems["fp32"] is not None:
            proven = "; conversions were not proven again, as FP32 was not kept"
    say(f"{folder.name}: every file is as it was installed{proven}")
    return 0


def _summary(folder: Path) -> str:
    """The table it ends with: sizes, errors and speed of each precision, and what `auto` takes."""
    from stt.engine.manifest import Manifest
    from stt.engine.precision import Known, choose
    from stt.install.measure import providers_here
    from stt.models import inspect

    manifest, model = Manifest.read(folder), inspect(folder)
    rows = [("precision", "MB", "encoder", "joint", "proof", "measured")]
    for precision in ("fp32", *manifest.precisions):
        entry = manifest.precisions.get(precision, {})
        figures = {check["name"]: check["figure"] for check in entry.get("checks", [])}
        names = model.family.graphs(precision)
        parts = [manifest.files.get(n) for name in names for n in (name, f"{name}.data")]
        size = sum(part["size"] for part in parts if part)
        speeds = [
            f"{row['provider']} {row['rtfx']:.1f}x, load {row['load_s']:.1f} s, "
            f"{row['peak_mib'] or 0:,.0f} MiB"
            for row in manifest.measurements
            if row["precision"] == precision
        ]
        proof = "" if precision == "fp32" else "proven" if entry["proven"] else "failed"
        rows.append(
            (
                precision,
                f"{size / 1e6:,.0f}" if size else "-",
                _percent(figures.get("encoder error")),
                _percent(figures.get("joint error")),
                proof,
                speeds[0] if speeds else "",
            )
        )
        rows += [("", "", "", "", "", speed) for speed in speeds[1:]]
    lines = columns(rows)
    ran = {row["provider"] for row in manifest.measurements}
    provider = next((p for p in providers_here() if p in ran), "cpu")
    choice = choose("auto", Known.of(model, provider))
    lines.append("encoder, joint: relative error beside fp32; x: times real time")
    text = f"auto takes {choice.precision} on {choice.provider}: {choice.reason}"
    lines += wrap(text, 80, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"
