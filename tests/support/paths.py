"""Where the tests' inputs lie."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
DATA = TESTS / "data"
DIGITS = DATA / "parakeet-digits"
CLIPS = DIGITS / "clips"
SAMPLES = ROOT / "samples"
SHARED = ROOT.parent / "shared"
"""Beside the clone; absent for most people: tests of it are skipped then."""
