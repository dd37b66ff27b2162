"""`stt serve`: for programs that speak OpenAI's interface or Wyoming, and for a browser."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stt.cli.output import report
from stt.cli.parsing import CONFIG_OPTION, QUIET_OPTION, HintedCommand, model_options
from stt.cli.progress import load_model

if TYPE_CHECKING:
    from stt.serve.options import ServeOptions
    from stt.settings.loading import LoadedSettings
    from stt.transcriber import ModelTranscriber


@click.command(cls=HintedCommand)
@click.option("--host", metavar="ADDRESS", help="Where it listens.  [default: 127.0.0.1]")
@click.option("--port", type=int, metavar="N", help="Port of HTTP and WebSocket.  [default: 8000]")
@click.option(
    "--wyoming", type=int, metavar="PORT", help="Speak Wyoming too; Home Assistant expects 10300."
)
@click.option("--announce", is_flag=True, help="With --wyoming: tell the network by Zeroconf.")
@click.option("--api-key", metavar="KEY", help="What clients must know; see --api-key-file.")
@click.option("--api-key-file", metavar="FILE", help="File with the key, which no one else sees.")
@click.option("--no-key", is_flag=True, help="Let everybody ask who reaches the address.")
@click.option(
    "--cors-origin", "origins", multiple=True, metavar="URL", help="A web page that may ask; *."
)
@click.option("--max-upload-mb", type=float, metavar="N", help="Largest file.  [default: 2000]")
@click.option("--max-audio-h", type=float, metavar="N", help="Longest recording.  [default: 12]")
@click.option(
    "--queue-s",
    type=float,
    metavar="S",
    help="Refuse (429) what would wait longer.  [default: 600]",
)
@click.option(
    "--idle-unload", type=float, metavar="MIN", help="Give the model's memory back when idle."
)
@click.option("--tls-cert", metavar="FILE", help="Certificate, PEM; with --tls-key.")
@click.option("--tls-key", metavar="FILE", help="Its key, PEM.")
@model_options
@CONFIG_OPTION
@QUIET_OPTION
def serve(
    announce: bool,
    no_key: bool,
    origins: tuple[str, ...],
    quiet: bool,
    config: Path | None,
    **given: Any,
) -> int:
    """Serve transcription to programs and to a browser.

    Programs speak OpenAI's interface, files by HTTP and speech by WebSocket, or Wyoming.

    \b
    stt serve                            then open the address that it prints
    curl -F file=@talk.mp3 http://127.0.0.1:8000/v1/audio/transcriptions
    stt serve --wyoming 10300 --host 0.0.0.0 --api-key-file key.txt
    """
    from stt.settings.loading import load_settings

    flags = {key: value for key, value in given.items() if value is not None}
    loaded = load_settings(config, flags)
    return _serve(loaded, announce=announce, no_key=no_key, origins=origins, quiet=quiet)


def _serve(
    loaded: LoadedSettings, *, announce: bool, no_key: bool, origins: tuple[str, ...], quiet: bool
) -> int:
    from stt.system.packages import require

    require("uvicorn", "the server")
    from stt.serve.engine import Engine
    from stt.serve.options import ServeOptions
    from stt.serve.server import address, listen, serve
    from stt.serve.service import Service
    from stt.serve.trial import tried

    settings = loaded.settings
    options = ServeOptions.of(settings, announce=announce, no_key=no_key, origins=origins)

    def load() -> ModelTranscriber:
        return load_model(loaded, quiet=quiet)

    def tell(line: str) -> None:
        if not quiet:
            report(line)

    _show_log(quiet=quiet)
    with ExitStack() as stack:
        bound, wyoming = stack.enter_context(listen(options.host, options.port)), None
        greeting = f"listening on {address(options, bound)}; Ctrl-C ends"
        if options.wyoming is not None:
            wyoming = stack.enter_context(listen(options.host, options.wyoming, "--wyoming"))
            tell(_about_wyoming(options, wyoming.getsockname()[1]))
        engine = Engine(load, options.idle_unload_s, trial=tried)
        serve(Service(engine, options), bound, tell, greeting=greeting, wyoming=wyoming)
    tell("ended")
    return 0


def _about_wyoming(options: ServeOptions, port: int) -> str:
    said = f"Wyoming on {options.host} port {port}"
    if options.api_key is None:
        return said
    return f"{said}; that protocol has no keys: whoever reaches the port may ask"


def _show_log(*, quiet: bool) -> None:
    """Print a line for each recording, unless `quiet`, and what goes wrong."""
    import logging

    class Shown(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warns = record.levelno >= logging.WARNING
            error = record.exc_info[1] if record.exc_info else None
            report(f"{'warning: ' * warns}{record.getMessage().strip()}", error)

    for name, level in (("stt.serve", logging.INFO), ("uvicorn.error", logging.WARNING)):
        log = logging.getLogger(name)
        log.handlers, log.propagate = [Shown()], False
        log.setLevel(logging.WARNING if quiet else level)
