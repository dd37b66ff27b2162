"""What NeMo's Conformer models have in common: files, encoder frames, tokens on their grid."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from stt.engine.folder import ModelFamily
from stt.engine.recognizer import TRAILING_SILENCE, Speech
from stt.engine.sessions import lacks_memory, running_graphs, runtime_errors
from stt.engine.stages import Stages, finished
from stt.models.nemo_graphs import Encoded, Features, Group
from stt.models.onnx_asr_edge import NemoModel
from stt.models.tdt import Emission
from stt.text import words
from stt.text.words import lengthened
from stt.transcript import Segment, Token
from stt.types import SAMPLE_RATE, Samples

T = TypeVar("T")

_POSITIONS = 5000
"""Encoder frames in the position table of NeMo's exports: a hard limit. A `max_audio_s` in
config.json says otherwise for models with a shorter table."""
_MIN_SAMPLES = 1_600
"""An utterance shorter than 0.1 s has too few feature frames for the encoder's subsampling."""
PADDING = 0.1
"""Most of a row that may be padding."""
SAMPLES = 600 * SAMPLE_RATE
"""Most samples, padding too, of a batch at 16 kHz: the largest tensor, of the subsampling, then has
2.0e9 bytes in FP32. cuDNN refuses one of 2^31."""


class NemoFamily(ModelFamily):
    """Files and limits of NeMo's Conformer models."""

    vocabulary = ("vocab.txt",)
    feature_sizes = (80, 128)  # mel bands that onnx-asr has filters for

    def longest_s(self, config: Mapping[str, Any]) -> int:
        """See ModelFamily."""
        return _POSITIONS * int(config.get("subsampling_factor", 8)) // 100

    def vocabulary_problem(self, path: Path) -> str | None:
        """See ModelFamily; vocab.txt has a token and its number in each line."""
        file = path / "vocab.txt"
        try:
            lines = file.read_text("utf-8").splitlines()
        except OSError as error:
            return f"{file.name} cannot be read ({error.strerror})"
        except UnicodeDecodeError as error:
            return f"{file.name} is not UTF-8 text (byte {error.start})"
        for number, line in enumerate(lines, start=1):
            parts = line.split(" ")
            if len(parts) != 2 or not parts[1].removeprefix("-").isdecimal():
                return f"{file.name}: line {number} is not a token and its number"
        return None


class TokenRecognizer(ABC):
    """Models that give tokens on a grid of encoder frames."""

    tells_words = True

    def __init__(self, model: NemoModel, streams: int = 1) -> None:
        """`streams`: see Recognizer."""
        self._streams = streams
        self._room = Room()
        self._pieces = model.pieces
        self._frame_s = model.frame_s
        self._provider = model.provider

    @property
    def provider(self) -> str:
        """Short name of the provider that really runs."""
        return self._provider

    @property
    def streams(self) -> int:
        """See Recognizer."""
        return self._streams

    def hasty(self, _: Callable[[], bool]) -> TokenRecognizer:
        """Return this one: it computes no more than it needs."""
        return self

    @abstractmethod
    def decoding(
        self, batch: Sequence[Samples], speech: Sequence[Speech] = ()
    ) -> Stages[list[list[Emission]]]:
        """Decode utterances, float32 [n] at 16 kHz, exactly as given; `speech`: see Recognizer."""

    def decode(
        self, batch: Sequence[Samples], speech: Sequence[Speech] = ()
    ) -> list[list[Emission]]:
        """Do all of `decoding` at once."""
        return finished(self.decoding(batch, speech))

    def recognize(
        self, batch: Sequence[Samples], speech: Sequence[Speech] = ()
    ) -> list[list[Segment]]:
        """Recognise utterances; see Recognizer."""
        return finished(self.in_stages(batch, speech))

    def in_stages(
        self, batch: Sequence[Samples], speech: Sequence[Speech] = ()
    ) -> Stages[list[list[Segment]]]:
        """Recognise utterances; see stages.Staged."""
        with running_graphs():
            decoded = yield from self.decoding([_padded(samples) for samples in batch], speech)
        return [
            self._segments(emissions, samples)
            for emissions, samples in zip(decoded, batch, strict=True)
        ]

    def _token(self, emission: Emission) -> Token:
        e = emission
        return Token(e.id, self._pieces[e.id], e.frame, e.duration, e.logprob, e.recovered)

    def _segments(self, emissions: Sequence[Emission], samples: Samples) -> list[Segment]:
        tokens = [token for token in map(self._token, emissions) if not _is_special(token.text)]
        seconds = len(samples) / SAMPLE_RATE
        spoken = words.words(tokens, self._frame_s, seconds)
        return words.segments(lengthened(words.refined(spoken, samples), seconds))


def _padded(samples: Samples) -> Samples:
    silence = max(TRAILING_SILENCE, _MIN_SAMPLES - len(samples))
    return np.concatenate([samples, np.zeros(silence, np.float32)])


def _is_special(piece: str) -> bool:
    """Tell control tokens such as <unk> and <|nospeech|>, which are no text."""
    return piece.startswith("<") and piece.endswith(">")


@dataclass(slots=True)
class Room:
    """What the device has memory for."""

    samples: int = SAMPLES
    """Of a batch, padding too; lowered where memory was not enough."""

    def halve(self, count: int, longest: int) -> None:
        """Note that so many utterances were too many; tells it the first time."""
        if self.samples == SAMPLES:
            logging.getLogger("stt").warning(
                "memory is not enough for %d utterances of %.0f s together; batches are smaller "
                "from here on",
                count,
                longest / SAMPLE_RATE,
            )
        self.samples = min(self.samples, count * longest // 2)


@dataclass(slots=True)
class _Together:
    """Utterances that the encoder takes together."""

    places: list[int]
    """In the batch, from the longest utterance down."""
    samples: list[Samples]
    features: Features | None = None
    """None: there was no memory for them."""

    @property
    def area(self) -> int:
        """Samples, padding too."""
        return len(self.places) * len(self.samples[0])

    def halves(self) -> tuple[_Together, _Together]:
        """Return the longer ones and the others; there are two at least."""
        middle = -(-len(self.places) // 2)
        return (
            _Together(self.places[:middle], self.samples[:middle]),
            _Together(self.places[middle:], self.samples[middle:]),
        )


def encoding(
    model: NemoModel, batch: Sequence[Samples], room: Room | None = None
) -> Stages[list[Group]]:
    """Run the encoder over float32 [n] utterances at 16 kHz.

    On the CPU one after the other, which is faster there (docs/measurements/speed.md); elsewhere
    in batches of like length, which are halved until they fit into memory. What did not fit once is
    not tried again. The first stage is the features.

    Raises:
        MemoryError, or ONNX Runtime's: one utterance alone does not fit.
    """
    room = room or Room()
    lengths = [len(samples) for samples in batch]
    together = [[place] for place in range(len(batch))]
    if model.provider != "cpu":
        together = buckets(lengths, room.samples)
    groups = deque(_Together(places, [batch[place] for place in places]) for places in together)
    for group in groups:
        group.features = _fitting(partial(model.features, group.samples), needed=False)
    yield
    encoded: list[Group] = []
    while groups:
        group = groups.popleft()
        alone = len(group.places) == 1
        found = None
        if alone or group.area <= room.samples:
            found = _fitting(partial(_encoded, model, group), needed=alone)
            if found is None:
                room.halve(len(group.places), len(group.samples[0]))
        if found is None:
            groups.extendleft(reversed(group.halves()))
        else:
            encoded.append((group.places, found))
    return encoded


def _encoded(model: NemoModel, group: _Together) -> Encoded:
    return model.encode_features(group.features or model.features(group.samples))


def _fitting(compute: Callable[[], T], *, needed: bool) -> T | None:
    """Return what is computed; None where memory is not enough for what is not `needed`."""
    failures: tuple[type[Exception], ...] = (MemoryError, *runtime_errors())
    try:
        return compute()
    except failures as error:
        if needed or not lacks_memory(error):
            raise
        return None


def buckets(lengths: Sequence[int], most: int = SAMPLES) -> list[list[int]]:
    """Group utterances for batches that waste little.

    Args:
        lengths: samples of each utterance.
        most: samples of a batch, padding too; an utterance longer than that has one of its own.

    Returns:
        Places in `lengths`, each once: in a group from the longest down, groups likewise.
    """
    groups: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        longest = lengths[groups[-1][0]] if groups else 0
        fits = groups and (len(groups[-1]) + 1) * longest <= most
        if fits and lengths[place] >= (1 - PADDING) * longest:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups
