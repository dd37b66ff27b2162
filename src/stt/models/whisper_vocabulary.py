"""Whisper's tokens: special ids, languages, and the way from ids to text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stt.errors import ModelError

__all__ = ["WhisperVocabulary", "load_vocabulary"]


@dataclass(frozen=True)
class WhisperVocabulary:
    """What the decoder must know about its tokens; ids throughout."""

    pieces: tuple[bytes, ...]
    """The bytes each token stands for, by id; empty for special tokens."""
    start: int
    end: int
    """<|endoftext|>; all ids below it are text."""
    no_timestamps: int
    timestamp_begin: int
    """<|0.00|>; each following id is 20 ms later, up to the last of the vocabulary."""
    no_speech: int
    transcribe: int
    languages: Mapping[str, int]
    """By code, e.g. en; empty for an English-only model."""
    suppress: tuple[int, ...]
    """Never said: markup, speaker tags, special tokens."""
    suppress_first: tuple[int, ...]
    """Not said as the first token: blank and the end."""
    max_positions: int
    """Longest sequence of tokens, prompt included."""

    def text(self, tokens: Iterable[int]) -> str:
        """The text of `tokens`, special ones left out.

        The bytes are joined before they are decoded: a character may be spread over tokens. Bytes
        that make no character, as where a text was cut, become U+FFFD.
        """
        return b"".join(self.pieces[token] for token in tokens).decode("utf-8", errors="replace")

    def time(self, token: int) -> float:
        """Seconds from the start of the window, of a timestamp token."""
        return (token - self.timestamp_begin) / 50


def load_vocabulary(folder: Path) -> WhisperVocabulary:
    """Read vocab.json, added_tokens.json and config.json as `export_whisper` writes them.

    Raises ModelError when one is missing or does not fit.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        ids: dict[str, int] = json.loads((folder / "vocab.json").read_text("utf-8"))
        special: dict[str, int] = json.loads((folder / "added_tokens.json").read_text("utf-8"))
        pieces = [b""] * (max([*ids.values(), *special.values()]) + 1)
        for token, i in ids.items():
            if token not in special and not token.startswith("<|"):
                pieces[i] = bytes(_BYTES[character] for character in token)
        special = special | {t: i for t, i in ids.items() if t.startswith("<|")}
        first_language, behind_languages = (
            special["<|startoftranscript|>"] + 1,
            special["<|translate|>"],
        )
        languages = {
            token[2:-2]: i for token, i in special.items() if first_language <= i < behind_languages
        }
        no_speech = special.get("<|nospeech|>", special.get("<|nocaptions|>"))
        if no_speech is None:
            raise KeyError("<|nospeech|>")
        return WhisperVocabulary(
            pieces=tuple(pieces),
            start=special["<|startoftranscript|>"],
            end=special["<|endoftext|>"],
            no_timestamps=special["<|notimestamps|>"],
            timestamp_begin=special["<|notimestamps|>"] + 1,
            no_speech=no_speech,
            transcribe=special["<|transcribe|>"],
            languages=languages if config["is_multilingual"] else {},
            suppress=tuple(config["suppress_tokens"]),
            suppress_first=tuple(config["begin_suppress_tokens"]),
            max_positions=config["max_target_positions"],
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"the tokens in {folder} cannot be used ({error}); set the model up again"
        ) from error


def _printable_bytes() -> dict[str, int]:
    """GPT-2's spelling of bytes (Radford et al. 2019, `encoder.py` of openai/gpt-2).

    Those that print stand for themselves, the others, in order, for U+0100 and up.
    """
    themselves = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in themselves]
    spelling = {chr(byte): byte for byte in themselves}
    return spelling | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTES = _printable_bytes()
