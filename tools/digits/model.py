"""The tiny Parakeet: NeMo's FastConformer-TDT with Parakeet's structure and small sizes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

# Set before NeMo is imported: nothing here may ask a model hub for anything.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import sentencepiece
from nemo.collections.asr.models import EncDecRNNTBPEModel
from nemo.utils import logging as nemo_logging
from omegaconf import DictConfig, OmegaConf
from tdt_loss import DURATIONS

MEL_BINS = 128
WIDTH = 128
LAYERS = 4
HEADS = 4
FEED_FORWARD_FACTOR = 2
SUBSAMPLING = 8
SUBSAMPLING_CHANNELS = 32
PREDICTION_WIDTH = 128
PREDICTION_LAYERS = 2
JOINT_WIDTH = 128
# Rows of relative positions that the export stores; 80 ms each, so 81 s of audio.
MAX_FRAMES = 1024
# Fewer pieces than digit words have parts, so that some words take two or three tokens.
VOCABULARY_SIZE = 48


def train_tokenizer(folder: Path, texts: Sequence[str]) -> None:
    """Train a SentencePiece BPE and lay it out as NeMo expects a tokenizer folder."""
    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=VOCABULARY_SIZE,
        model_type="bpe",
        character_coverage=1.0,
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    pieces = [processor.id_to_piece(index) for index in range(1, processor.vocab_size())]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")


def preprocessor_config() -> dict[str, object]:
    """Parakeet's features, without dither: what onnx-asr computes, also on digital zero."""
    return {
        "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
        "sample_rate": 16_000,
        "normalize": "per_feature",
        "window_size": 0.025,
        "window_stride": 0.01,
        "window": "hann",
        "features": MEL_BINS,
        "n_fft": 512,
        "frame_splicing": 1,
        "dither": 0.0,
        "pad_to": 0,
    }


def encoder_config(dropout: float) -> dict[str, object]:
    """FastConformer as in Parakeet TDT v3: no biases, relative positions, 8x subsampling."""
    return {
        "_target_": "nemo.collections.asr.modules.ConformerEncoder",
        "feat_in": MEL_BINS,
        "feat_out": -1,
        "n_layers": LAYERS,
        "d_model": WIDTH,
        "use_bias": False,
        "subsampling": "dw_striding",
        "subsampling_factor": SUBSAMPLING,
        "subsampling_conv_channels": SUBSAMPLING_CHANNELS,
        "causal_downsampling": False,
        "ff_expansion_factor": FEED_FORWARD_FACTOR,
        "self_attention_model": "rel_pos",
        "n_heads": HEADS,
        "att_context_size": [-1, -1],
        "att_context_style": "regular",
        "xscaling": False,
        "untie_biases": True,
        "pos_emb_max_len": MAX_FRAMES,
        "conv_kernel_size": 9,
        "conv_norm_type": "batch_norm",
        "conv_context_size": None,
        "dropout": dropout,
        "dropout_pre_encoder": dropout,
        "dropout_emb": 0.0,
        "dropout_att": dropout,
    }


def transducer_config(dropout: float) -> dict[str, dict[str, object]]:
    """Prediction network, joint network and greedy decoding with durations."""
    prediction = {"pred_hidden": PREDICTION_WIDTH, "pred_rnn_layers": PREDICTION_LAYERS}
    joint = {"joint_hidden": JOINT_WIDTH, "activation": "relu", "dropout": dropout}
    return {
        "decoder": {
            "_target_": "nemo.collections.asr.modules.RNNTDecoder",
            "normalization_mode": None,
            "random_state_sampling": False,
            "blank_as_pad": True,
            "prednet": {**prediction, "t_max": None, "dropout": dropout},
        },
        "joint": {
            "_target_": "nemo.collections.asr.modules.RNNTJoint",
            "log_softmax": None,
            "preserve_memory": False,
            "fuse_loss_wer": False,
            "fused_batch_size": -1,
            "jointnet": {**joint, "encoder_hidden": WIDTH, "pred_hidden": PREDICTION_WIDTH},
            "num_extra_outputs": len(DURATIONS),
        },
        "decoding": {
            "strategy": "greedy_batch",
            "model_type": "tdt",
            "durations": list(DURATIONS),
            "greedy": {"max_symbols": 10, "loop_labels": True, "use_cuda_graph_decoder": False},
        },
    }


def model_config(tokenizer: Path, dropout: float) -> DictConfig:
    """The whole NeMo configuration."""
    return OmegaConf.create(
        {
            "sample_rate": 16_000,
            "compute_eval_loss": False,
            "log_prediction": False,
            "rnnt_reduction": "mean_volume",
            "skip_nan_grad": False,
            "model_defaults": {
                "enc_hidden": WIDTH,
                "pred_hidden": PREDICTION_WIDTH,
                "joint_hidden": JOINT_WIDTH,
                "tdt_durations": list(DURATIONS),
                "num_tdt_durations": len(DURATIONS),
            },
            "tokenizer": {"dir": str(tokenizer), "type": "bpe"},
            "preprocessor": preprocessor_config(),
            "encoder": encoder_config(dropout),
            **transducer_config(dropout),
            # NeMo wants a loss to exist; training uses `tdt_loss` instead, this one needs a GPU.
            "loss": {
                "loss_name": "tdt_pytorch",
                "tdt_pytorch_kwargs": {"durations": list(DURATIONS), "sigma": 0.0},
            },
            "optim": {"name": "adamw", "lr": 1e-3},
        }
    )


def build_model(tokenizer: Path, dropout: float = 0.01) -> EncDecRNNTBPEModel:
    """Build an untrained model over the tokenizer folder."""
    nemo_logging.setLevel("ERROR")
    return EncDecRNNTBPEModel(cfg=model_config(tokenizer, dropout))
