"""Download, convert, prove and install models: the same as `stt setup`.

usage: setup_models.py [MODEL] [--precision fp16,int8,...] [--from DIR|HUB_ID[@REV]] ...
"""

from __future__ import annotations

import sys

from stt.cli import main

if __name__ == "__main__":
    sys.exit(main(["setup", *sys.argv[1:]]))
