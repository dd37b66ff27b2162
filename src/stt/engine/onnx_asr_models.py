"""The only importer of onnx_asr. It finds a model's files, loads their sessions and computes
features; what it calls private is used here and nowhere else, and held by a contract test
(`tests/engine/test_onnx_asr_contract.py`) against the pinned release.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stt.engine.providers import session_providers, short_name
from stt.engine.tdt import TdtVocabulary
from stt.engine.whisper_session import OrtWhisper
from stt.engine.whisper_vocabulary import WhisperVocabulary, load_vocabulary
from stt.errors import ModelError
from stt.models.folder import ModelFolder

Floats = npt.NDArray[np.float32]
Samples = npt.NDArray[np.float32]
LstmState = tuple[Floats, Floats]
"""Both states of the prediction network, float32 [layers, 1, width] each."""


def load_asr(folder: ModelFolder, precision: str, provider: str, threads: int) -> Any:
    """Load one precision of a model folder through onnx-asr and return its inner model object.

    Raises:
        ModelError: onnx-asr or ONNX Runtime refuses the files; the text says which and why.
    """
    import onnx_asr
    import onnxruntime
    from onnx_asr.utils import ModelLoadingError

    refusals: tuple[type[Exception], ...] = (ModelLoadingError, OSError, *_runtime_errors())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors are raised; warnings would land on the user's screen
    try:
        adapter = onnx_asr.load_model(
            folder.kind,
            folder.path,
            quantization=None if precision == "fp32" else precision,
            sess_options=options,
            providers=session_providers(provider),
        )
    except refusals as error:
        raise ModelError(_told(error, folder.path)) from error
    return adapter.asr  # type: ignore[attr-defined, unused-ignore]


def _runtime_errors() -> tuple[type[Exception], ...]:
    """ONNX Runtime's exceptions: they share no base class of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = [value for value in vars(state).values() if isinstance(value, type)]
    return tuple(kind for kind in found if issubclass(kind, Exception))


def _told(error: Exception, path: Path) -> str:
    """Shorten ONNX Runtime's message to one line about the file."""
    text = " ".join(str(error).split()).replace(f"{path}/", "")
    if "Protobuf parsing failed" in text:
        text = f"{text.split(' failed:')[0].split('Load model from ')[-1]} is not an ONNX file"
    return text if len(text) <= 300 else text[:297] + "..."


def running_provider(session: Any) -> str:
    """Return the short name of the provider that a session really uses first."""
    return short_name(session.get_providers()[0])


@dataclass(frozen=True, slots=True)
class TdtModel:
    """A loaded TDT transducer: features, encoder, and the fused prediction network and joint."""

    asr: Any
    vocabulary: TdtVocabulary
    pieces: dict[int, str]
    """Token id -> text, a leading space marking a word's start."""
    frame_s: float
    """Seconds per encoder frame."""
    provider: str
    """The provider its encoder really runs on."""

    def encode(self, samples: Samples) -> Floats:
        """Return encoder frames, float32 [T, D], of float32 [n] samples at 16 kHz."""
        waveforms, lengths = samples[None], np.array([len(samples)], np.int64)
        frames, valid = self.asr._encode(*self.asr._preprocessor(waveforms, lengths))
        # a converted length path may promise more frames than there are: never read past them
        return np.asarray(frames[0, : min(int(valid[0]), frames.shape[1])])

    def initial_state(self) -> LstmState:
        """Return the prediction network's state before any token."""
        state: LstmState = self.asr._create_state()
        return state

    def step(self, last: int, state: LstmState, frame: Floats) -> tuple[Floats, LstmState]:
        """Run prediction network and joint once: a `tdt.JointStep`."""
        logits, hidden, cell = self.asr._decoder_joint.run(
            ["outputs", "output_states_1", "output_states_2"],
            {
                "encoder_outputs": frame[None, :, None],
                "targets": np.array([[last]], np.int32),
                "target_length": np.array([1], np.int32),
                "input_states_1": state[0],
                "input_states_2": state[1],
            },
        )
        return logits.reshape(-1), (hidden, cell)


def load_tdt(folder: ModelFolder, precision: str, provider: str, threads: int) -> TdtModel:
    """Load a TDT transducer.

    Raises:
        ModelError: the files do not load, or their vocabulary and joint do not fit together.
    """
    asr = load_asr(folder, precision, provider, threads)
    size = asr._vocab_size
    outputs = next(o for o in asr._decoder_joint.get_outputs() if o.name == "outputs").shape[-1]
    vocabulary = TdtVocabulary(size, getattr(asr, "_blank_idx", -1))
    if vocabulary.blank < 0:
        raise ModelError("vocab.txt has no <blk> line")
    durations = len(vocabulary.durations)
    if isinstance(outputs, int) and outputs != size + durations:
        raise ModelError(
            f"vocab.txt has {size} tokens and TDT {durations} durations, "
            f"but the joint has {outputs} outputs"
        )
    vocabulary = TdtVocabulary(size, vocabulary.blank, max_symbols=asr._max_tokens_per_step)
    frame_s = asr.window_step * asr._subsampling_factor
    return TdtModel(asr, vocabulary, dict(asr._vocab), frame_s, running_provider(asr._encoder))


@dataclass(frozen=True, slots=True)
class WhisperModel:
    """A loaded Whisper: its two sessions and its tokens."""

    sessions: OrtWhisper
    vocabulary: WhisperVocabulary
    provider: str
    """The provider its encoder really runs on."""


def load_whisper(folder: ModelFolder, precision: str, provider: str, threads: int) -> WhisperModel:
    """Load a Whisper model.

    Raises:
        ModelError: the files do not load, or their tokens cannot be used.
    """
    asr = load_asr(folder, precision, provider, threads)
    device, device_id = asr._device_type, asr._device_id
    sessions = OrtWhisper(asr._encoder, asr._decoder, device=device, device_id=device_id)
    return WhisperModel(sessions, load_vocabulary(folder.path), running_provider(asr._encoder))
