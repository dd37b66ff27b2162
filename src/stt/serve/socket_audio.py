"""Audio as sockets send it: base64 of 16-bit PCM or G.711, to float32."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from stt.types import Samples

Encoding = Literal["pcm", "pcmu", "pcma"]
LEAST_RATE, MOST_RATE = 8000, 48_000
"""Hz of PCM."""
G711_RATE = 8000
LONGEST_APPEND = 15 * 2**20
"""Bytes of base64 in one event, as OpenAI has it."""


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """How audio comes: one channel, little endian."""

    encoding: Encoding = "pcm"
    rate: int = 24_000
    """Hz."""


class NotAudio(ValueError):  # noqa: N818 - it says what was sent
    """What a client sent as audio is none; the text is for the client."""


class AudioDecoder:
    """Decodes pieces of one stream, which may be cut within a sample."""

    def __init__(self, form: AudioFormat) -> None:
        self.form = form
        self._odd = b""

    def __call__(self, text: str) -> Samples:
        """Return float32 [n] of base64.

        Raises:
            NotAudio: it is not base64, or too long.
        """
        if len(text) > LONGEST_APPEND:
            raise NotAudio(f"one event takes {LONGEST_APPEND} bytes of base64; send smaller pieces")
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise NotAudio(f"audio is no base64: {error}") from error
        if self.form.encoding != "pcm":
            return _levels(self.form.encoding)[np.frombuffer(data, np.uint8)]
        data = self._odd + data
        whole = len(data) & ~1
        self._odd = data[whole:]
        return np.frombuffer(data[:whole], "<i2").astype(np.float32) / np.float32(2**15)

    def forget(self) -> None:
        """Take what follows for the beginning of a sample."""
        self._odd = b""


@cache
def _levels(encoding: Encoding) -> Samples:
    """The sample of each byte, float32 [256] (ITU-T G.711)."""
    code = np.arange(256)
    if encoding == "pcmu":
        code = ~code & 0xFF
        exponent, mantissa = code >> 4 & 7, code & 15
        size = ((mantissa << 3) + 0x84 << exponent) - 0x84
        negative = code >= 0x80
    else:
        code ^= 0x55
        exponent, mantissa = code >> 4 & 7, code & 15
        size = np.where(
            exponent == 0,
            (mantissa << 4) + 8,
            (mantissa << 4) + 0x108 << np.maximum(exponent, 1) - 1,
        )
        negative = code < 0x80
    return np.asarray(np.where(negative, -size, size) / 2**15, np.float32)
