"""A line with a cure for exceptions of Python and of libraries that nothing nearer has dealt with.

Whoever calls a library gives its exceptions a line where it knows what was being done; this is the
net below. What is in neither is a bug.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from types import MappingProxyType

_SETUP_AGAIN = "run `stt setup MODEL --check`, or `stt setup MODEL` again"
_NETWORK = "check the connection and proxy, or import the files with `stt setup --from DIR`"
_RECORDING = "convert the recording with `ffmpeg -i FILE out.wav` and transcribe that"
_LIBRARIES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "onnxruntime": ("ONNX Runtime cannot run this model", _SETUP_AGAIN),
        "onnx": ("this model cannot be converted", "set it up again, or use it as it is: -p fp32"),
        "google": ("this model's graph cannot be read or is too large", _SETUP_AGAIN),
        "onnx_asr": ("this model cannot be loaded", _SETUP_AGAIN),
        "av": ("FFmpeg cannot read this", _RECORDING),
        "soundfile": ("libsndfile cannot read this", _RECORDING),
        "sounddevice": ("the sound system failed", "see `stt devices`, connect the device again"),
        "sqlite3": (
            "the journal of the folder of results cannot be used",
            "move its .stt away to begin anew, or choose another folder with -o",
        ),
        "filelock": (
            "a lock file cannot be had",
            "wait for the other stt, or use a folder on a local disk",
        ),
        "psutil": ("the system does not tell about its processes", "allow reading /proc"),
        "huggingface_hub": ("the model hub cannot be used", _NETWORK),
        "httpx": ("the model hub cannot be reached", _NETWORK),
        "httpcore": ("the model hub cannot be reached", _NETWORK),
        "requests": ("the model hub cannot be reached", _NETWORK),
        "ray": ("the Ray cluster failed", "see docs/cluster.md, or leave --ray out"),
    }
)
"""Library -> what is wrong, and what to do."""
_SYSTEM: Mapping[int, str] = MappingProxyType(
    {
        errno.ENOSPC: "free some space",
        errno.EDQUOT: "free some space: your quota is used up",
        errno.EMFILE: "too many files are open: allow more with `ulimit -n 4096`, or use --jobs 1",
        errno.ENFILE: "close other programs",
        errno.ENOMEM: "close other programs, or use --jobs 1",
        errno.EIO: "the disk or its connection fails: use another",
        errno.EROFS: "the disk is read-only: choose another folder",
    }
)
_LONGEST = 300


def told(error: BaseException) -> str | None:
    """Return one line that says what to do; None for what is a bug."""
    if isinstance(error, MemoryError):
        return (
            "not enough memory; close other programs, use --jobs 1, or set batch_size or "
            "max_segment_s lower"
        )
    if isinstance(error, OSError):
        cure = _SYSTEM.get(error.errno or 0, "check the path and its rights")
        return f"{error.filename or 'output'}: {error.strerror or _line(error)}; {cure}"
    for kind in type(error).__mro__:
        if known := _LIBRARIES.get(kind.__module__.partition(".")[0]):
            wrong, cure = known
            return f"{wrong} ({_line(error)}); {cure}"
    if isinstance(error, UnicodeError):
        return f"not UTF-8 ({_line(error)}); rename the file, or save its text as UTF-8"
    return None


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
