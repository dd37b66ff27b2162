"""Make the pictures of the README anew: what the program shows today.

usage: python scripts/make_pictures.py     (or `make pictures`)

Each command runs in a folder and with a home of its own, without settings, after the starter has
introduced itself. Take a quiet machine: the pictures tell the speed. Needs the dependency group
`docs` and a POSIX system; a minute.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from recordings import ROOT, SAMPLES, group

PICTURES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "demo.svg": ("stt", "transcribe", "-f", "srt", "samples/weather.flac"),
        "live.svg": ("stt", "live", "--input", "samples/train.flac"),
    }
)
"""Picture in docs/ -> the command it shows."""
BEFORE = ("stt", "transcribe", "samples/train.flac")
"""Run before, unseen: the starter is prepared and introduces itself."""
MAKERS = MappingProxyType({"demo.svg": "screenshot.py", "live.svg": "record_screen.py"})


def fresh_home(folder: Path) -> dict[str, str]:
    """Put samples/ into an empty folder, a home; returns the environment to run stt there in."""
    (folder / "samples").symlink_to(SAMPLES, target_is_directory=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STT_")}
    homes = {f"XDG_{kind}_HOME": str(folder / kind.lower()) for kind in ("CONFIG", "DATA", "STATE")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, **homes, "HOME": str(folder), "PATH": path}


def main() -> None:
    """Make each picture."""
    if len(sys.argv) > 1:
        print(__doc__)
        sys.exit(0 if sys.argv[1] in ("-h", "--help") else 2)
    with group("docs"):
        import pyte  # noqa: F401 - the makers need it
    with tempfile.TemporaryDirectory() as name:
        environment = fresh_home(Path(name))
        subprocess.run(BEFORE, cwd=name, env=environment, check=True, capture_output=True)
        for picture, command in PICTURES.items():
            maker = str(ROOT / "scripts" / MAKERS[picture])
            out = str(ROOT / "docs" / picture)
            subprocess.run(
                [sys.executable, maker, out, "--", *command], cwd=name, env=environment, check=True
            )
            print(f"docs/{picture}: {' '.join(command)}")


if __name__ == "__main__":
    main()
