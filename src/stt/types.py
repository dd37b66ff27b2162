"""Names that every room shares: samples, their rate, arrays, and how progress is reported."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 16_000
"""Hz of all audio from the resampler on: what the VAD and every model take."""

Samples = npt.NDArray[np.float32]
"""Audio, float32 [n], one channel, in ±1."""
Floats = npt.NDArray[np.float32]
"""Any other float32 array: features, encoder frames, logits."""

ReportProgress = Callable[[str, int, int], None]
"""(stage, done, total): drawn by the command line, ignored by default elsewhere."""
