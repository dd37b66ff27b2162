"""The command line: one module per command. The only place that catches broadly and prints.

Exit codes: 0 all done; 1 a recording, a model or an output failed; 2 wrong usage or settings;
130 stopped by Ctrl-C.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

import click

from stt.cli.bench import bench
from stt.cli.config import config
from stt.cli.devices import devices
from stt.cli.hints import HintedGroup
from stt.cli.live import live
from stt.cli.report import report
from stt.cli.setup import setup
from stt.cli.transcribe import transcribe
from stt.errors import SttError
from stt.optional import missing

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130


@click.group(
    cls=HintedGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="stt-parakeet", prog_name="stt")
def stt() -> None:
    """Speech to text on this machine, with NVIDIA Parakeet and ONNX Runtime.

    \b
    stt transcribe talk.mp3              print what was said
    stt transcribe -o out -f srt *.mp4   write subtitles into the folder out
    stt live                             print what is said into the microphone
    stt setup                            install Parakeet (2.5 GB); until then a
                                         small English starter does the work
    """


for command in (transcribe, live, devices, setup, bench, config):
    stt.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; no exception leaves it."""
    try:
        code = stt.main(
            args=None if arguments is None else list(arguments),
            prog_name="stt",
            standalone_mode=False,
        )
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
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
    except (click.Abort, KeyboardInterrupt):
        report("stopped; what was finished before is kept")
        return INTERRUPTED
    except BrokenPipeError:  # the reader (head, less) went away: nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        cure = "free some space" if error.errno == errno.ENOSPC else "check the path and its rights"
        report(f"{error.filename or 'output'}: {error.strerror or error}; {cure}", error)
        return FAILED
    except ModuleNotFoundError as error:
        report(missing(error.name or "onnxruntime"), error)
        return WRONG_USAGE
    except Exception as error:
        report(
            f"internal error: {type(error).__name__}: {error}; this is a bug: please report it "
            "with the output of the same command under STT_DEBUG=1",
            error,
        )
        return FAILED
    return code if isinstance(code, int) else 0
