"""This package's version, and what is said of packages that are missing.

Each of these comes with an extra of this package, or by its own name where no extra brings it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from types import MappingProxyType

from stt.errors import UsageError

_EXTRA = "`pip install 'stt-parakeet[{}]'`"
CURES: Mapping[str, str] = MappingProxyType(
    {
        "onnxruntime": f"{_EXTRA.format('cpu')}, or `[gpu]` with an NVIDIA card",
        "sounddevice": _EXTRA.format("mic"),
        "ray": _EXTRA.format("ray"),
        **dict.fromkeys(
            ("uvicorn", "starlette", "multipart", "python_multipart", "websockets", "wyoming"),
            _EXTRA.format("serve"),
        ),
        "zeroconf": _EXTRA.format("serve"),
        "prometheus_client": _EXTRA.format("serve"),
        "sherpa_onnx": "`pip install sherpa-onnx`",
    }
)
"""Module -> how to install it."""


@cache
def stt_version() -> str:
    """Return the installed version; 'unknown' where the package runs without being installed."""
    from importlib import metadata

    try:
        return metadata.version("stt-parakeet")
    except metadata.PackageNotFoundError:
        return "unknown"


def require(module: str, purpose: str) -> None:
    """Refuse to go on without a package.

    Args:
        module: a key of CURES.
        purpose: what needs it, the sentence's beginning: 'running a model'.

    Raises:
        UsageError: it is not installed, or damaged.
    """
    spec = find_spec(module)
    if spec is None:
        raise UsageError(missing(module, purpose))
    if spec.origin is None:  # one of two packages of this module was taken away
        raise UsageError(
            f"{purpose} needs the package {module}, which is damaged here: two packages that bring "
            "it were installed, or one of them was removed; make a fresh environment with the "
            "extra `cpu` or `gpu`, not both"
        )


def missing(module: str, purpose: str | None = None) -> str:
    """One line: what is missing and how to get it, in the environment that `stt` runs from."""
    needed = f"{purpose} needs the package" if purpose else "this installation lacks the package"
    name = module.partition(".")[0]
    cure = CURES.get(name, "`pip install --force-reinstall stt-parakeet`")
    return f"{needed} {name.replace('_', '-')}; {cure} installs it"
