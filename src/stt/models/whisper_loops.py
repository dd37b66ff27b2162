"""Notice when Whisper has begun to say the same again and again.

Small Whisper models fall into loops on noise and music, and greedy decoding never leaves them.
OpenAI's code decodes again at random when a text compresses too well; here the loop is cut when it
is seen, which is deterministic and saves the rest of its 224 tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["loop_start"]

_LONGEST_PHRASE = 32  # tokens
_LEAST_TIMES = 4
_LEAST_TOKENS = 32  # people do say "no, no, no, no"


def loop_start(tokens: Sequence[int]) -> int | None:
    """Where the second time begins of a phrase that `tokens` end with over and over, if they do.

    A loop is a phrase of up to 32 tokens said at least 4 times in a row, 32 tokens or more in all.
    """
    for period in range(1, min(_LONGEST_PHRASE, len(tokens) // _LEAST_TIMES) + 1):
        seen = max(_LEAST_TIMES * period, _LEAST_TOKENS)
        if seen > len(tokens) or tokens[-seen:-period] != tokens[period - seen :]:
            continue
        start = len(tokens) - seen
        while start > 0 and tokens[start - 1] == tokens[start - 1 + period]:
            start -= 1
        return start + period
    return None
