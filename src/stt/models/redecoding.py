"""What a transducer's decoder passed over although somebody spoke, decoded again.

A prediction network can be left in a state from which the joint answers every frame with blank:
after a sentence's end and a pause, sparse soft speech then decodes to nothing (54 of 137 s were
reported lost so; hyperaudio-lite-editor #671). The encoder's frames of such a stretch are good, and
a prediction network that starts anew reads them. So the stretch is decoded once more from the start
state, and what comes of it is kept where it is probable. CTC and Whisper have no such state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from stt.audio.vad import FRAME
from stt.errors import NonFiniteOutput
from stt.models.label_looping import Decoding
from stt.models.tdt import Emission
from stt.types import SAMPLE_RATE, Floats

Decode = Callable[[Sequence[Floats]], Sequence[Decoding]]
"""Encoder frames, float32 [T, D] of each utterance -> what they say, from the start state."""

SPOKEN_S = 3.0
"""Seconds of speech without a token that are decoded again."""
LEAST_LOGPROB = math.log(0.5)
"""Mean logarithm of probability from which what was decoded again is kept."""
_SPEECH = 0.5
"""Probability above which a frame is speech; just this is told where nobody has listened."""
_SAME_WORD = 3
"""Frames before a token within which the same one, decoded again, is that token heard early."""


@dataclass(frozen=True, slots=True)
class _Gap:
    """Encoder frames [begin, end) of an utterance that gave no token."""

    row: int
    begin: int
    end: int
    place: int
    """How many of the utterance's tokens come before it; never 0: the start state was tried."""


def redecoded(
    decoded: Sequence[Decoding],
    frames: Sequence[Floats],
    speech: Sequence[Sequence[float]],
    decode: Decode,
    *,
    frame_s: float,
    word_starts: Collection[int] = (),
) -> list[Decoding]:
    """Decode again what gave no token for more than `SPOKEN_S` seconds of speech.

    Args:
        decoded: what was made of each utterance of a batch.
        frames: the encoder's frames of each, float32 [T, D].
        speech: probability of speech of each 512 samples of each utterance, as the VAD heard it;
            empty, or of an utterance empty, where nobody listened: nothing is done then.
        decode: decodes frames from the start state.
        frame_s: seconds per encoder frame.
        word_starts: ids of tokens that begin a word; a stretch's first words begin with one.

    Returns:
        The same with the tokens that were found in addition, marked `recovered`, in their places.

    Raises:
        NonFiniteOutput: NaN or infinity in logits; its `index` is the utterance's.
    """
    made = [Decoding(list(one.emissions), one.near_ties) for one in decoded]
    tried: set[tuple[int, int]] = set()
    while gaps := [
        gap
        for row, heard in enumerate(speech)
        for gap in _gaps(row, made[row].emissions, len(frames[row]), heard, frame_s)
        if (row, gap.begin) not in tried
    ]:
        tried |= {(gap.row, gap.begin) for gap in gaps}
        again = _decoded([frames[gap.row][gap.begin : gap.end] for gap in gaps], gaps, decode)
        for gap, one in reversed(list(zip(gaps, again, strict=True))):
            emissions = made[gap.row].emissions
            found = _believed(one.emissions, gap, emissions[gap.place :], word_starts)
            emissions[gap.place : gap.place] = found
            if found:
                ties = made[gap.row].near_ties + one.near_ties
                made[gap.row] = Decoding(emissions, ties)
    return made


def _decoded(
    stretches: Sequence[Floats], gaps: Sequence[_Gap], decode: Decode
) -> Sequence[Decoding]:
    try:
        return decode(stretches)
    except NonFiniteOutput as error:
        error.index = gaps[error.index].row
        raise


def _gaps(
    row: int, emissions: Sequence[Emission], frames: int, heard: Sequence[float], frame_s: float
) -> list[_Gap]:
    """Return the stretches behind tokens that hold more than `SPOKEN_S` seconds of speech."""
    gaps = []
    ends = [emission.frame for emission in emissions[1:]] + [frames]
    for place, (emission, end) in enumerate(zip(emissions, ends, strict=False), start=1):
        begin = emission.frame + max(emission.duration, 1)
        if (end - begin) * frame_s <= SPOKEN_S:
            continue
        first, last = (round(f * frame_s * SAMPLE_RATE / FRAME) for f in (begin, end))
        spoken = sum(probability > _SPEECH for probability in heard[first:last])
        if spoken * FRAME / SAMPLE_RATE > SPOKEN_S:
            gaps.append(_Gap(row, begin, end, place))
    return gaps


def _believed(
    emissions: Sequence[Emission],
    gap: _Gap,
    following: Sequence[Emission],
    word_starts: Collection[int],
) -> list[Emission]:
    """Return the tokens found in a gap at their frames of the utterance; none if improbable."""
    first = next((i for i, e in enumerate(emissions) if e.id in word_starts), 0)
    found = [replace(e, frame=e.frame + gap.begin, recovered=True) for e in emissions[first:]]
    while found and following and _heard_early(found[-1], following[0]):
        found.pop()
    if not found or sum(e.logprob for e in found) / len(found) < LEAST_LOGPROB:
        return []
    return found


def _heard_early(one: Emission, following: Emission) -> bool:
    return one.id == following.id and following.frame - one.frame <= _SAME_WORD
