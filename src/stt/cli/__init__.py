"""The command line: one module per command. The only place that catches broadly and prints.

Exit codes: 0 all done; 1 a recording, a model or an output failed; 2 wrong usage or settings;
130 stopped by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from stt.cli import outcomes
from stt.cli.bench import bench
from stt.cli.config import config
from stt.cli.devices import devices
from stt.cli.live import live
from stt.cli.models import models
from stt.cli.outcomes import stoppable
from stt.cli.output import report
from stt.cli.parsing import HintedGroup
from stt.cli.serve import serve
from stt.cli.setup import setup
from stt.cli.transcribe import transcribe
from stt.errors import SttError
from stt.system.packages import missing, stt_version
from stt.system.temporary import sweep

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130


def _show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print the version where it is asked for: looking it up takes a tenth of the start."""
    if wanted and not context.resilient_parsing:
        click.echo(f"stt, version {stt_version()}")
        context.exit()


@click.group(
    cls=HintedGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def stt() -> None:
    """Speech to text on this machine, with NVIDIA Parakeet and ONNX Runtime.

    \b
    stt transcribe talk.mp3              print what was said
    stt transcribe -o out -f srt *.mp4   write subtitles into the folder out
    stt live                             print what is said into the microphone
    stt setup                            install Parakeet (2.5 GB); until then a
                                         small English starter does the work
    """


for command in (transcribe, live, serve, devices, setup, models, bench, config):
    stt.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; no exception leaves it."""
    outcomes.prepare_streams()
    try:
        sweep()
        with stoppable():
            code = _run(None if arguments is None else list(arguments))
    except KeyboardInterrupt as error:
        code = _interrupted(error)
    outcomes.abandon_stdout()
    return code


def _run(arguments: list[str] | None) -> int:
    try:
        code = stt.main(args=arguments, prog_name="stt", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return WRONG_USAGE
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        report(
            f"{error.format_message().rstrip('.')}; "
            f"see `{context.command_path if context else 'stt'} --help`"
        )
        return WRONG_USAGE
    except SttError as error:
        report(error, error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        return _interrupted(error.__cause__ or error)
    except BrokenPipeError:  # the reader (head, less) went away: nothing is wrong
        return FAILED
    except SystemExit as error:  # click's own: the same with 1, and shell completion with 0
        return error.code if isinstance(error.code, int) else FAILED
    except ModuleNotFoundError as error:
        report(missing(error.name or "onnxruntime"), error)
        return WRONG_USAGE
    except Exception as error:
        bug = (
            f"internal error: {type(error).__name__}: {' '.join(str(error).split())}; this is a "
            "bug: please report it with the output of the same command under STT_DEBUG=1"
        )
        report(outcomes.message(error) or bug, error)
        return FAILED
    return code if isinstance(code, int) else 0


def _interrupted(error: BaseException) -> int:
    """Tell that it was stopped; returns the exit code, by Ctrl-C or by the system."""
    report("stopped")
    return getattr(error, "exit_code", INTERRUPTED)
