"""What a server is told: where it listens, for whom, and how much it takes."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from stt.errors import UsageError
from stt.settings.schema import Settings
from stt.transcript import DEFAULT_STYLE, SubtitleStyle

WYOMING_PORT = 10300
"""The port that Home Assistant expects."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Of one server."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0: any that is free."""
    wyoming: int | None = None
    """Port of the Wyoming protocol; None: it is not spoken."""
    announce: bool = False
    """Tell the network, by Zeroconf, that Wyoming is spoken here."""
    api_key: str | None = field(default=None, repr=False)
    """What clients must know; None: nothing."""
    origins: tuple[str, ...] = ()
    """Of pages on other hosts that may ask; none: they may not."""
    max_upload_bytes: int = 2_000_000_000
    max_audio_s: float = 12 * 3600.0
    """Seconds of a recording, and of a live session."""
    queue_s: float = 600.0
    """Seconds that a request may have to wait for those before it."""
    idle_unload_s: float | None = None
    """Seconds without a request after which the model's memory is given back; None: never."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    grace_s: float = 30.0
    """Seconds that what is under way may take when the server is told to end."""

    style: SubtitleStyle = DEFAULT_STYLE
    """How subtitles are made."""

    @classmethod
    def of(
        cls, settings: Settings, *, announce: bool, no_key: bool, origins: tuple[str, ...]
    ) -> ServeOptions:
        """Take what the settings say.

        Raises:
            UsageError: they contradict one another, or a file named cannot be read.
        """
        key = settings.api_key
        if settings.api_key_file is not None:
            if key is not None:
                raise UsageError("give api_key or api_key_file, not both")
            key = _read_key(Path(settings.api_key_file))
        if no_key and key is not None:
            raise UsageError("--no-key contradicts the api_key that is set; leave one of them out")
        if key is None and not no_key and not _is_loopback(settings.host):
            raise UsageError(
                f"without a key it listens on this machine alone, not on {settings.host}: give "
                "--api-key-file FILE, or --no-key where everybody there may use it"
            )
        if (settings.tls_cert is None) != (settings.tls_key is None):
            raise UsageError("TLS takes both, tls_cert and tls_key")
        cert, key_file = _file(settings.tls_cert, "tls_cert"), _file(settings.tls_key, "tls_key")
        if cert is not None:
            _check_tls(cert, key_file)
        if announce and settings.wyoming is None:
            raise UsageError(f"--announce needs --wyoming PORT, e.g. {WYOMING_PORT}")
        return cls(
            host=settings.host,
            port=settings.port,
            wyoming=settings.wyoming,
            announce=announce,
            api_key=key,
            origins=origins,
            max_upload_bytes=round(settings.max_upload_mb * 1e6),
            max_audio_s=settings.max_audio_h * 3600,
            queue_s=settings.queue_s,
            idle_unload_s=None if settings.idle_unload is None else settings.idle_unload * 60,
            tls_cert=cert,
            tls_key=key_file,
            grace_s=settings.grace_s,
            style=settings.subtitle_style,
        )


def _read_key(path: Path) -> str:
    try:
        key = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"api_key_file: {path} cannot be read: {error}") from error
    if not key or len(key.split()) != 1:
        raise UsageError(f"api_key_file: {path} must hold the key alone, on one line")
    return key


def _file(name: str | None, setting: str) -> Path | None:
    if name is None:
        return None
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"{setting}: {path} is not a file; name one that exists")
    return path


def _check_tls(cert: Path, key: Path | None) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except OSError as error:  # ssl's own errors too
        raise UsageError(
            f"tls_cert, tls_key: {error.strerror or error}; give a certificate and its key, both "
            "PEM files, the key without a password"
        ) from error


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
