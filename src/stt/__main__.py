"""`python -m stt` is the same as `stt`."""

from __future__ import annotations

import sys

from stt.cli import main

if __name__ == "__main__":
    sys.exit(main())
