"""Whisper's log-mel features, and its graphs in ONNX Runtime.

The decoder's cache stays where it is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stt.engine.sessions import finite
from stt.types import SAMPLE_RATE, Floats

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Int64 = npt.NDArray[np.int64]

WINDOW_SECONDS = 30
"""Whisper always sees this much; less is filled up with silence."""

_FFT = 400  # samples, 25 ms
_HOP = 160  # samples, 10 ms
_WINDOW_SAMPLES = WINDOW_SECONDS * SAMPLE_RATE
_FRAMES = _WINDOW_SAMPLES // _HOP
_BLOCK = (
    60  # frames a product; small ones stay on one thread, waiting for a busy second one is slow
)
_FLOOR = 1e-10
_RANGE = 8.0  # decades below the loudest that are kept
_SHRINK_BELOW = 0.8  # of the batch: dropping a row copies the others


def log_mel(samples: Floats, mels: int = 80) -> Floats:
    """Features of one utterance: float32 [n] at 16 kHz, at most 30 s -> float32 [mels, 3000].

    The definition is `audio.py` of OpenAI's Whisper: reflected ends, a periodic Hann window, power
    spectrum, Slaney mel scale, logarithm, 8 decades below the utterance's loudest band, scaled. The
    silence behind the utterance is not transformed but filled in.

    Raises ValueError for more than 30 s.
    """
    if len(samples) > _WINDOW_SAMPLES:
        raise ValueError(f"{len(samples)} samples are more than Whisper's {WINDOW_SECONDS} s")
    half = _FFT // 2
    wave = np.zeros(_WINDOW_SAMPLES, np.float32)
    wave[: len(samples)] = samples
    wave = np.pad(wave, half, mode="reflect")
    touched = -(-(len(samples) + half) // _HOP)  # frames that hold something of the utterance
    sounding = min(_FRAMES, -(-touched // _BLOCK) * _BLOCK)

    frames = np.lib.stride_tricks.sliding_window_view(wave, _FFT)[: sounding * _HOP : _HOP]
    spectrum = np.fft.rfft(frames * _hann())
    power = (spectrum.real**2 + spectrum.imag**2).reshape(-1, _BLOCK, spectrum.shape[1])
    logs = np.full((mels, _FRAMES), np.log10(_FLOOR), np.float32)
    energies = (power @ _mel_bank(mels).T).reshape(sounding, mels)
    logs[:, :sounding] = np.log10(np.maximum(energies, _FLOOR)).T
    features: Floats = (np.maximum(logs, logs.max() - _RANGE) + 4.0) / 4.0
    return features


@lru_cache(maxsize=1)
def _hann() -> Floats:
    return np.hanning(_FFT + 1)[:-1].astype(np.float32)


@lru_cache(maxsize=2)
def _mel_bank(mels: int) -> Floats:
    """Triangles [mels, 201] of equal area over Slaney's mel scale, 0 to 8 kHz.

    Slaney, "Auditory Toolbox" (1998): linear to 1 kHz, 15 mels there, then 27 mels for each factor
    of 6.4.
    """
    break_mel, step = 15.0, np.log(6.4) / 27.0
    top = break_mel + np.log(SAMPLE_RATE / 2 / 1000.0) / step
    marks = np.linspace(0.0, top, mels + 2)
    edges = np.where(
        marks < break_mel, marks * 200 / 3, 1000.0 * np.exp(step * (marks - break_mel))
    )
    bins = np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE)
    widths = np.diff(edges)[:, None]
    slopes = edges[:, None] - bins
    triangles = np.maximum(0.0, np.minimum(-slopes[:-2] / widths[:-1], slopes[2:] / widths[1:]))
    bank: Floats = (triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)
    return bank


class OrtWhisper:
    """The encoder and decoder of one model folder, as sessions on one device."""

    def __init__(
        self,
        encoder: InferenceSession,
        decoder: InferenceSession,
        *,
        device: str = "cpu",
        device_id: int = 0,
    ) -> None:
        """`device` is ONNX Runtime's name of where both sessions compute: cpu or cuda."""
        self._encoder = encoder
        self._decoder = decoder
        self._device = device
        self._device_id = device_id
        self.mels = int(encoder.get_inputs()[0].shape[1])

    def start(self, features: Sequence[Floats]) -> OrtStep:
        """Encode a batch, float32 [mels, F] each, and stand before its first decoder step.

        F is even and the same for all, at most 3000.
        """
        return self._begin(self.encode(features), len(features))

    def decoder(self, hidden: Floats) -> OrtStep:
        """Stand before the first step behind an encoder's output, float32 [B, positions, width]."""
        from onnxruntime import OrtValue

        place = (self._device, self._device_id)
        value = OrtValue.ortvalue_from_numpy(np.ascontiguousarray(hidden), *place)
        return self._begin(value, len(hidden))

    def encode(self, features: Sequence[Floats]) -> Any:
        """Encode a batch as `start` does; an OrtValue, float32 [B, positions, width]."""
        if self._device == "cpu":
            return self._encode_one_by_one(features)
        return self._encode_together(features)

    def _begin(self, hidden: Any, batch: int) -> OrtStep:
        return OrtStep(self._decoder, hidden, batch, self._device, self._device_id)

    def _encode_one_by_one(self, features: Sequence[Floats]) -> Any:
        """A batch is no faster on a CPU and takes 100 MB of scratch memory for each utterance."""
        from onnxruntime import OrtValue

        width = int(self._encoder.get_outputs()[0].shape[2])
        hidden = np.empty((len(features), features[0].shape[1] // 2, width), np.float32)
        for i, one in enumerate(features):
            binding = self._encoder.io_binding()
            binding.bind_cpu_input("input_features", np.ascontiguousarray(one[None], np.float32))
            _bind_output(binding, "last_hidden_state", hidden[i : i + 1])
            self._encoder.run_with_iobinding(binding)
        return OrtValue.ortvalue_from_numpy(hidden)

    def _encode_together(self, features: Sequence[Floats]) -> Any:
        binding = self._encoder.io_binding()
        binding.bind_cpu_input("input_features", np.stack(features).astype(np.float32, copy=False))
        binding.bind_output("last_hidden_state", self._device, self._device_id)
        self._encoder.run_with_iobinding(binding)
        return binding.get_outputs()[0]


class OrtStep:
    """The decoder's state for one batch of utterances; a `whisper_decoding.Step`."""

    def __init__(
        self, session: InferenceSession, hidden: Any, batch: int, device: str, device_id: int
    ) -> None:
        self._session = session
        self._device = (device, device_id)
        self._binding = session.io_binding()
        self._rows = np.arange(batch)  # of the cache: where each utterance still asked for lies
        self._batch = batch  # rows of the cache
        self._started = False
        outputs = [output.name for output in session.get_outputs()]
        self._own = [name for name in outputs if name.endswith((".decoder.key", ".decoder.value"))]
        self._source = [
            name for name in outputs if name.endswith((".encoder.key", ".encoder.value"))
        ]
        _, self._heads, _, self._head_width = session.get_outputs()[1].shape
        self._frames = int(hidden.shape()[1])
        self._hidden = hidden
        self._source_cache: dict[str, Any] = {}
        self._bind_start()

    def __call__(self, tokens: Int64) -> Floats:
        """Append int64 [B, S] to the B utterances kept; float32 [B, vocabulary] of what follows."""
        everything = np.zeros((self._batch, tokens.shape[1]), np.int64)
        everything[self._rows] = tokens
        binding = self._binding
        binding.bind_cpu_input("input_ids", everything)
        binding.clear_binding_outputs()
        binding.bind_output("logits")
        for name in self._own:
            binding.bind_output(name, *self._device)
        if not self._started:
            self._bind_source_outputs()
        self._session.run_with_iobinding(binding)

        logits, *caches = binding.get_outputs()
        for name, cache in zip(self._own, caches, strict=False):
            binding.bind_ortvalue_input(_past(name), cache)
        self._own_cache = caches[: len(self._own)]
        if not self._started:
            self._bind_source_inputs(caches[len(self._own) :])
        scores: Floats = finite(logits.numpy()[:, 0], "logits")
        return scores if len(self._rows) == self._batch else scores[self._rows]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these of the utterances only; the cache shrinks with them when it pays."""
        self._rows = self._rows[list(rows)]
        on_cpu = self._device[0] == "cpu"
        if on_cpu and self._started and len(self._rows) <= _SHRINK_BELOW * self._batch:
            self._shrink()

    def _bind_start(self) -> None:
        """Everything the first step takes, which `keep` never changes."""
        from onnxruntime import OrtValue

        self._binding.bind_ortvalue_input("encoder_hidden_states", self._hidden)
        self._binding.bind_cpu_input("use_cache_branch", np.array([False]))
        empty = OrtValue.ortvalue_from_numpy(
            np.zeros((0, self._heads, 0, self._head_width), np.float32), *self._device
        )
        for name in self._own + self._source:
            self._binding.bind_ortvalue_input(_past(name), empty)

    def _bind_source_outputs(self) -> None:
        for name in self._source:
            if self._device[0] != "cpu":
                self._binding.bind_output(name, *self._device)
                continue
            shape = (self._batch, self._heads, self._frames, self._head_width)
            self._source_cache[name] = np.empty(shape, np.float32)
            _bind_output(self._binding, name, self._source_cache[name])

    def _bind_source_inputs(self, values: Sequence[Any]) -> None:
        self._started = True
        self._binding.bind_cpu_input("use_cache_branch", np.array([True]))
        for name, value in zip(self._source, values, strict=True):
            if self._device[0] == "cpu":
                self._binding.bind_cpu_input(_past(name), self._source_cache[name])
            else:
                self._binding.bind_ortvalue_input(_past(name), value)

    def _shrink(self) -> None:
        from onnxruntime import OrtValue

        rows = self._rows
        for name, cache in zip(self._own, self._own_cache, strict=True):
            kept = OrtValue.ortvalue_from_numpy(cache.numpy()[rows])
            self._binding.bind_ortvalue_input(_past(name), kept)
        for name in self._source:
            self._source_cache[name] = self._source_cache[name][rows]
            self._binding.bind_cpu_input(_past(name), self._source_cache[name])
        self._batch = len(rows)
        self._rows = np.arange(self._batch)


def _past(present: str) -> str:
    return present.replace("present.", "past_key_values.")


def _bind_output(binding: Any, name: str, values: Floats) -> None:
    """Let ONNX Runtime write an output straight into a NumPy array in CPU memory."""
    binding.bind_output(name, "cpu", 0, np.float32, values.shape, values.ctypes.data)
