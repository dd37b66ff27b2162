"""A model that was loaded is tried before anybody waits for it."""

from __future__ import annotations

import time
from functools import cache

from stt.audio.utterances import Utterance
from stt.install.observation import bundled_clips
from stt.transcriber import ModelTranscriber
from stt.types import SAMPLE_RATE, Samples

_TRIAL_S = 3.0


def tried(transcriber: ModelTranscriber) -> float:
    """Recognise a few seconds of speech; returns seconds of audio recognised in a second.

    Raises:
        ModelError: nothing usable came of it.
    """
    utterance = Utterance(0, _speech())
    began = time.perf_counter()
    transcriber.guarded(transcriber.recognizer).recognize([utterance])
    return _TRIAL_S / max(time.perf_counter() - began, 1e-6)


@cache
def _speech() -> Samples:
    return bundled_clips()[0].samples[: round(_TRIAL_S * SAMPLE_RATE)].copy()
