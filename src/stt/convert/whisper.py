"""Export OpenAI Whisper from CTranslate2's format to ONNX, without PyTorch.

The folder written is the one onnx-asr's model type `whisper` reads (the layout of optimum's
exports): encoder_model.onnx and decoder_model_merged.onnx, each with a .data file of weights beside
it, vocab.json, added_tokens.json, config.json. Any size works; English-only and multilingual models
share the shape.
"""

from __future__ import annotations

import json
from pathlib import Path

from stt.convert.ctranslate2 import WhisperSize, read_ctranslate2, whisper_size
from stt.errors import ModelError
from stt.types import ReportProgress

_MULTILINGUAL_VOCABULARY = 51865  # tokens; one less is an English-only model (as in OpenAI's code)


def export_whisper(
    source: Path, target: Path, *, progress: ReportProgress = lambda *_: None
) -> None:
    """Write the model in folder `source` into the existing, empty folder `target`.

    source: a folder as CTranslate2's converter writes it for Whisper: model.bin in float32, float16
        or bfloat16, config.json, and vocabulary.json or vocabulary.txt.
    progress: called with ("converting Whisper", layers done, layers in all).

    The weights written are FP32. Raises ModelError when the source is damaged or not Whisper,
    OSError when the target cannot be written.
    """
    from stt.convert.whisper_graph import write_graphs  # brings onnx, which recognising never needs

    model = read_ctranslate2(source / "model.bin")
    size = whisper_size(model)
    vocabulary = _read_vocabulary(source, size)
    total = size.encoder_layers + size.decoder_layers
    done = 0

    def layer_done() -> None:
        nonlocal done
        done += 1
        progress("converting Whisper", done, total)

    progress("converting Whisper", 0, total)
    write_graphs(model, size, target, layer_done)
    _write_vocabulary(target, vocabulary)
    _write_json(target / "config.json", _config(source, size, vocabulary))


def _read_vocabulary(source: Path, size: WhisperSize) -> list[str]:
    """The tokens in the order of their ids, in GPT-2's printable spelling of bytes."""
    try:
        if (source / "vocabulary.json").exists():
            tokens = json.loads((source / "vocabulary.json").read_text("utf-8"))
        else:
            # split() at line feeds alone: pieces hold other characters that end lines in Unicode
            tokens = (source / "vocabulary.txt").read_text("utf-8").removesuffix("\n").split("\n")
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read the vocabulary in {source}: {error}") from error
    if not isinstance(tokens, list) or len(set(tokens)) != size.vocabulary:
        raise ModelError(
            f"the vocabulary in {source} lacks some of the model's {size.vocabulary} tokens; "
            "fetch both again"
        )
    return tokens


def _is_special(token: str) -> bool:
    return token.startswith("<|") and token.endswith("|>")


def _write_vocabulary(target: Path, vocabulary: list[str]) -> None:
    """Split as in the tokenizer files of optimum's exports; together they name every id."""
    ids = {token: i for i, token in enumerate(vocabulary)}
    _write_json(target / "vocab.json", {t: i for t, i in ids.items() if not _is_special(t)})
    _write_json(target / "added_tokens.json", {t: i for t, i in ids.items() if _is_special(t)})


def _config(source: Path, size: WhisperSize, vocabulary: list[str]) -> dict[str, object]:
    """config.json, under the names transformers uses where it has one."""
    try:
        given = json.loads((source / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {source / 'config.json'}: {error}") from error
    return {
        "model_type": "whisper",
        "num_mel_bins": size.mels,
        "d_model": size.width,
        "encoder_layers": size.encoder_layers,
        "decoder_layers": size.decoder_layers,
        "encoder_attention_heads": size.heads,
        "decoder_attention_heads": size.heads,
        "max_source_positions": size.source_positions,
        "max_target_positions": size.target_positions,
        "vocab_size": size.vocabulary,
        "is_multilingual": len(vocabulary) >= _MULTILINGUAL_VOCABULARY,
        "suppress_tokens": given.get("suppress_ids", []),
        "begin_suppress_tokens": given.get("suppress_ids_begin", []),
    }


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", "utf-8")
