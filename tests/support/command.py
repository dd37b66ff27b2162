"""The command line in this process, and what the digits model's clips say."""

from __future__ import annotations

from collections.abc import Callable

from support.paths import CLIPS

Run = Callable[..., tuple[int, str, str]]
"""Runs `stt` with these arguments: exit code, standard output, standard error."""
SAID = {
    name: text
    for name, text in (
        line.split("\t")[:2] for line in (CLIPS / "references.tsv").read_text("utf-8").splitlines()
    )
    if name.endswith(".flac")
}
"""Clip -> its words."""
