"""Whether a fetched model runs at all: what does not is not installed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from stt.engine.sessions import running_graphs
from stt.errors import ModelError
from stt.install.clips import Clip
from stt.install.observation import load, observe
from stt.install.source import Source
from stt.models import inspect

_BY_HAND = ("config.json", "vocab.txt")
"""Files that people write; what is wrong with them can be corrected."""


def try_fp32(folder: Path, source: Source, clip: Clip) -> None:
    """Load FP32 on the CPU and run one clip.

    Args:
        folder: where the model lies now.
        source: where it came from, of which an error speaks.
        clip: speech; what is heard does not matter.

    Raises:
        ModelError: it does not load or run; the text names the file to correct, where it is one.
    """
    try:
        model = inspect(folder)
        model.check_vocabulary()
        with running_graphs():
            observe(load(model, "fp32"), (), [clip])
    except ModelError as error:
        raise ModelError(_told(str(error), folder, source)) from error


def _told(error: str, folder: Path, source: Source) -> str:
    why = re.split(r"[;:] (?:run `stt setup`|correct )", error)[0]
    why = why.removeprefix(f"{folder}: ").replace(str(folder), source.told)
    wrong = next((name for name in _BY_HAND if name in why), None)
    head = f"{source.told}: fp32 does not run ({why}); nothing was installed"
    if source.folder is None:
        return f"{head}; choose another revision or repository"
    again = f"`stt setup {shlex.quote(str(source.folder))}` again"
    if wrong is None:
        return f"{head}; see what is wrong with its files, then {again}"
    return f"{head}; correct {source.folder.resolve() / wrong}, then {again}"
