"""A microphone without a sound card."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stt.audio import microphone as module
from support.desk import Desk


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(module, "POLL_S", 0.005)
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    made = Desk(tmp_path, monkeypatch.setattr)
    yield made
    for microphone in made.made:
        microphone.close()
