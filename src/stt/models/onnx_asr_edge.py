"""The only importer of onnx_asr: finds a model's files, loads their sessions, computes features.

What onnx_asr calls private is used here and nowhere else, and held by a contract test
(`tests/models/test_onnx_asr_contract.py`) against the pinned release.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from stt.engine.folder import TUNED, ModelFolder, cuda_form
from stt.engine.recognizer import Feed
from stt.engine.sessions import (
    Runtime,
    finite,
    load_error,
    runtime_errors,
    session_options,
    session_providers,
    short_name,
)
from stt.errors import ModelError, NonFiniteOutput
from stt.models.card_decoder import CardDecoder, load_card_decoder
from stt.models.label_looping import Decoding, Networks, label_looping
from stt.models.nemo_features import MelBands, mel_bands, nemo_features
from stt.models.nemo_graphs import (
    Encoded,
    Features,
    Group,
    check_features,
    check_graph,
    usable,
    usable_frames,
)
from stt.models.split_transducer import (
    LstmState,
    SplitTransducer,
    joint_feed,
    load_parts,
)
from stt.models.step_networks import CardFrames
from stt.models.tdt import DURATIONS, TdtVocabulary, greedy_tdt
from stt.models.whisper_decoding import WhisperVocabulary, load_vocabulary
from stt.models.whisper_session import OrtWhisper
from stt.types import Floats, Samples

if TYPE_CHECKING:
    from stt.models.card_features import CardFeatures

T = TypeVar("T")
Frames = Floats | CardFrames
"""Encoder frames of an utterance, or a stretch of them."""


def load_asr(folder: ModelFolder, precision: str, runtime: Runtime) -> Any:
    """Load one precision of a model folder through onnx-asr and return its inner model object.

    On the CPU FP32 is loaded in its tuned form where there is one (`stt.convert.attention`), on
    CUDA each precision in its form for it (`stt.convert.cuda`).

    Raises:
        ModelError: onnx-asr or ONNX Runtime refuses the files; the text says which and why.
    """
    from onnx_asr.loader import Manager
    from onnx_asr.utils import ModelLoadingError

    named = "" if precision == "fp32" else precision
    if runtime.provider == "cpu" and folder.tuned and precision == "fp32":
        named = TUNED
    if runtime.provider == "cuda" and precision in folder.cuda:
        named = cuda_form(precision)
    refusals: tuple[type[Exception], ...] = (ModelLoadingError, OSError, *runtime_errors())
    try:
        manager = Manager(
            session_options(runtime.threads_each), session_providers(runtime.provider)
        )
        # what it would resample is 16 kHz already, and its seven sessions take 0.1 s to load
        manager._create_resampler = lambda rate: None  # type: ignore[assignment, method-assign, return-value, unused-ignore]
        adapter = manager.create_asr(folder.family.name, folder.path, quantization=named or None)
    except refusals as error:
        raise load_error(error, folder.path) from error
    return adapter.asr  # type: ignore[attr-defined, unused-ignore]


def running_provider(session: Any) -> str:
    """Return the short name of the provider that a session really uses first."""
    return short_name(session.get_providers()[0])


def batch_features(asr: Any, utterances: Sequence[Samples]) -> Features:
    """Return features float32 [B, mels, T] and lengths int64 [B] of float32 [n] utterances.

    On the CPU they are computed here, elsewhere by onnx-asr's graph where the model runs.
    """
    from onnx_asr.preprocessors.numpy_preprocessor import NemoPreprocessorNumpy

    if isinstance(asr._preprocessor, NemoPreprocessorNumpy):
        return nemo_features(utterances, bands(asr._features_size))
    lengths = np.array([len(samples) for samples in utterances], np.int64)
    waveforms = np.zeros((len(utterances), int(lengths.max())), np.float32)
    for row, samples in zip(waveforms, utterances, strict=True):
        row[: len(samples)] = samples
    features, valid = asr._preprocessor(waveforms, lengths)
    return features, valid


def mel_filters(mels: int) -> Floats:
    """Return onnx-asr's filters of NeMo's features, float32 [257 bins, mels]."""
    from onnx_asr.preprocessors.numpy_preprocessor import NemoPreprocessorNumpy

    filters: Floats = NemoPreprocessorNumpy(f"nemo{mels}")._melscale_fbanks
    return filters


@lru_cache(maxsize=2)
def bands(mels: int) -> MelBands:
    """Return the mel bands of NeMo's features: 80 or 128."""
    return mel_bands(mel_filters(mels))


@dataclass(frozen=True, slots=True)
class NemoModel:
    """What every loaded NeMo model has: features, and a graph from them to frames."""

    asr: Any
    pieces: dict[int, str]
    """Token id -> text, a leading space marking a word's start."""
    frame_s: float
    """Seconds per encoder frame."""
    provider: str
    """The provider its encoder really runs on."""

    def feed(self, samples: Samples) -> Feed:
        """Return the inputs of the encoder's graph for float32 [n] samples at 16 kHz."""
        features, lengths = batch_features(self.asr, [samples])
        return {"audio_signal": features, "length": lengths}

    def encode(self, samples: Samples) -> Floats:
        """Return encoder frames, float32 [T, D], of float32 [n] samples at 16 kHz.

        Of a CTC model these are log-probabilities, float32 [T, V].
        """
        return usable(*self.encode_all(samples))

    def encode_all(self, samples: Samples) -> tuple[Floats, int]:
        """Return all frames, float32 [T, D], and how many of them the model says are real."""
        frames, valid = self.asr._encode(*batch_features(self.asr, [samples]))
        return frames[0], int(valid[0])

    def features(self, batch: Sequence[Samples]) -> Features:
        """Return the features of float32 [n] utterances at 16 kHz."""
        return batch_features(self.asr, batch)

    def encode_features(self, features: Features) -> Encoded:
        """Return what the encoder makes of features."""
        frames, valid = self.asr._encode(*features)
        return frames, valid


@dataclass(frozen=True, slots=True)
class TdtModel(NemoModel):
    """A loaded transducer, TDT or plain: features, encoder, fused prediction network and joint."""

    vocabulary: TdtVocabulary
    split: SplitTransducer | None = None
    """The decoder_joint in parts, which then decode; None: it decodes whole."""
    card: CardDecoder | None = None
    """Decodes in rounds on values that stay on a card, in the parts' place."""
    card_features: CardFeatures | None = None
    """Computes features on the card, where its `card` takes them."""

    def features(self, batch: Sequence[Samples]) -> Features:
        """See NemoModel."""
        if self.card_features is not None:
            return self.card_features(batch)
        return NemoModel.features(self, batch)

    def encode_features(self, features: Features) -> Encoded:
        """See NemoModel."""
        if self.card is not None:
            return self.card.encode(self.asr._encoder, features)
        return NemoModel.encode_features(self, features)

    def working(self, work: Callable[[], T]) -> T:
        """Do all that is done with the frames of one batch, where the decoder wants it done."""
        return work() if self.card is None else self.card.working(work)

    def frames(self, encoded: Sequence[Group]) -> Sequence[Frames]:
        """Return the real frames of each utterance of a batch in its order.

        Raises:
            NonFiniteOutput: see `usable_frames`; on a card NaN and infinity show in the logits.
        """
        return usable_frames(encoded) if self.card is None else self.card.frames(encoded)

    def decode(self, batch: Sequence[Frames]) -> list[Decoding]:
        """Decode encoder frames, arrays float32 [T, D] of each utterance or all on the card.

        Raises:
            NonFiniteOutput: NaN or infinity in logits; its `index` is the utterance's.
        """
        there = [frames for frames in batch if isinstance(frames, CardFrames)]
        here = [frames for frames in batch if not isinstance(frames, CardFrames)]
        lengths = [len(frames) for frames in batch]
        if self.card is not None:
            networks: Networks = self.card.networks(there or self.card.placed(here))
        elif self.split is not None:
            networks = self.split.batch(here, self.vocabulary)
        else:
            return [self._decode_fused(frames, index) for index, frames in enumerate(here)]
        return label_looping(networks, lengths, self.vocabulary)

    def _decode_fused(self, frames: Floats, index: int) -> Decoding:
        try:
            return Decoding(greedy_tdt(self.step, self.initial_state(), frames, self.vocabulary))
        except NonFiniteOutput as error:
            error.index = index
            raise

    def initial_state(self) -> LstmState:
        """Return the prediction network's state before any token."""
        state: LstmState = self.asr._create_state()
        return state

    def step(self, last: int, state: LstmState, frame: Floats) -> tuple[Floats, LstmState]:
        """Run prediction network and joint once: a `tdt.JointStep` that refuses NaN."""
        logits, after = self.logits(last, state, frame)
        return finite(logits, "logits"), after

    def logits(self, last: int, state: LstmState, frame: Floats) -> tuple[Floats, LstmState]:
        """Run prediction network and joint once; returns what they give, NaN too."""
        logits, hidden, cell = self.asr._decoder_joint.run(
            ["outputs", "output_states_1", "output_states_2"], joint_feed(last, state, frame)
        )
        return logits.reshape(-1), (hidden, cell)


def load_tdt(
    folder: ModelFolder,
    precision: str,
    runtime: Runtime,
    durations: tuple[int, ...] = DURATIONS,
) -> TdtModel:
    """Load a transducer, in parts where it has them.

    Args:
        folder: the model's.
        precision: one that is complete.
        runtime: what it runs on.
        durations: frames it may move on after a token; none for a plain transducer.

    Raises:
        ModelError: the files do not load, or their vocabulary and joint do not fit together.
    """
    asr = load_asr(folder, precision, runtime)
    check_graph(asr._encoder, ["audio_signal", "length"], ["outputs", "encoded_lengths"])
    check_graph(
        asr._decoder_joint,
        ["encoder_outputs", "targets", "target_length", "input_states_1", "input_states_2"],
        ["outputs", "output_states_1", "output_states_2"],
    )
    check_features(asr._features_size, asr._encoder, folder.path)
    outputs = next(o for o in asr._decoder_joint.get_outputs() if o.name == "outputs").shape[-1]
    size, blank = _vocabulary(asr, outputs, len(durations))
    on_card = runtime.provider == "cuda" and precision in folder.cuda & folder.split
    in_parts = precision in folder.split and not on_card
    return TdtModel(
        asr,
        dict(asr._vocab),
        _frame_s(asr),
        running_provider(asr._encoder),
        TdtVocabulary(size, blank, durations, max_symbols=asr._max_tokens_per_step),
        load_parts(folder, precision, runtime) if in_parts else None,
        load_card_decoder(folder, precision, runtime) if on_card else None,
        _card_features(asr, runtime, folder) if on_card else None,
    )


def _card_features(asr: Any, runtime: Runtime, folder: ModelFolder) -> CardFeatures:
    from stt.models.card_features import load_card_features  # with onnx, which takes its time

    return load_card_features(folder, mel_filters(asr._features_size), runtime)


def _vocabulary(asr: Any, outputs: object, durations: int) -> tuple[int, int]:
    """Return the number of tokens with blank, and the blank, held against the graph's outputs."""
    size, blank = int(asr._vocab_size), int(getattr(asr, "_blank_idx", -1))
    if blank < 0:
        raise ModelError("vocab.txt has no <blk> line")
    # without durations a vocabulary may name more tokens than there are outputs, as onnx-asr has it
    fewest = size + durations if durations else blank + 1
    if isinstance(outputs, int) and not fewest <= outputs <= size + durations:
        with_durations = f" and TDT {durations} durations" if durations else ""
        raise ModelError(
            f"vocab.txt has {size} tokens{with_durations}, but the model has {outputs} outputs"
        )
    return size, blank


def _frame_s(asr: Any) -> float:
    return float(asr.window_step * asr._subsampling_factor)


@dataclass(frozen=True, slots=True)
class CtcModel(NemoModel):
    """A loaded CTC model: features, and one graph from them to the tokens of every frame."""

    blank: int


def load_ctc(folder: ModelFolder, precision: str, runtime: Runtime) -> CtcModel:
    """Load a CTC model.

    Raises:
        ModelError: the files do not load, or their vocabulary and output do not fit together.
    """
    asr = load_asr(folder, precision, runtime)
    check_graph(asr._model, ["audio_signal", "length"], ["logprobs"])
    check_features(asr._features_size, asr._model, folder.path)
    outputs = next(o for o in asr._model.get_outputs() if o.name == "logprobs").shape[-1]
    _, blank = _vocabulary(asr, outputs, durations=0)
    provider = running_provider(asr._model)
    return CtcModel(asr, dict(asr._vocab), _frame_s(asr), provider, blank)


@dataclass(frozen=True, slots=True)
class WhisperModel:
    """A loaded Whisper: its two sessions and its tokens."""

    sessions: OrtWhisper
    vocabulary: WhisperVocabulary
    provider: str
    """The provider its encoder really runs on."""


def load_whisper(folder: ModelFolder, precision: str, runtime: Runtime) -> WhisperModel:
    """Load a Whisper model.

    Raises:
        ModelError: the files do not load, or their tokens cannot be used.
    """
    asr = load_asr(folder, precision, runtime)
    device, device_id = asr._device_type, asr._device_id
    sessions = OrtWhisper(asr._encoder, asr._decoder, device=device, device_id=device_id)
    return WhisperModel(sessions, load_vocabulary(folder.path), running_provider(asr._encoder))
