"""Segments -> subtitle cues: which words share a cue, what its lines are, how long it stays.

The breaks of a recording are chosen together, by the least total cost (a shortest path over the
words), as paragraphs are broken into lines by Knuth and Plass, "Breaking paragraphs into lines"
(1981): a good break early is not taken if it forces a bad one later.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from stt.text.words import spaced
from stt.transcript import DEFAULT_STYLE, Segment, SubtitleStyle

LONG_PAUSE_MS = 1000
"""A silence this long always ends a cue: the text of what comes next would spoil it."""

SHORT_PAUSE_MS = 600
"""A silence this long is as good a place for a break as the end of a sentence."""

COST_PER_CUE = 40.0
COST_OF_CLAUSE_BREAK = 30.0
COST_OF_WORD_BREAK = 120.0
COST_OF_RUNNING_ON = 45.0  # for a sentence that begins in the middle of a cue; more after a pause
COST_OF_FULL_CUE = 30.0  # grows with the square of the length: of two cues neither is left a stub
COST_OF_TOO_SHORT = 1000.0  # above all others: only where all choices are is a cue too short
COST_OF_HASTE = 60.0  # for a cue on screen for less than COMFORT_MS
COMFORT_MS = 1200
READABLE_MS = 200
"""A cue is on screen so long at least: where words follow one another faster, it comes later."""

SENTENCE_ENDS = frozenset(".!?…。！？")  # noqa: RUF001
CLAUSE_ENDS = frozenset(",;:—–、，；：")  # noqa: RUF001
CLOSERS = "\"'”’)]»"  # noqa: RUF001
TITLES = frozenset({"Mr.", "Mrs.", "Ms.", "Dr.", "Prof.", "St."})

# No-break spaces stay: where they stand, a line must not break ("Quoi ?" in French).
BREAKING_SPACE = re.compile(r"(?:[^\S\u00a0\u2007\u202f]|[\x00-\x1f\x7f-\x9f])+")


@dataclass(frozen=True, slots=True)
class CueWord:
    """A word on a line, or the part of one that fits there."""

    text: str
    start: float
    """Seconds from the start of the recording, whole milliseconds."""
    heard: bool
    """Whether the model told when; else it is a share of its segment's time."""


@dataclass(frozen=True, slots=True)
class Cue:
    """Lines of text and when they are shown."""

    start: float
    """Seconds from the start of the recording, whole milliseconds."""
    end: float
    """Seconds from the start of the recording, whole milliseconds; always after `start`."""
    words: tuple[tuple[CueWord, ...], ...]
    """Those of each line."""

    @property
    def lines(self) -> tuple[str, ...]:
        """Return the text, line by line."""
        return tuple(" ".join(word.text for word in line) for line in self.words)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A word, or the part of one that fits on a line; times in milliseconds."""

    text: str
    start: int
    end: int
    ends_segment: bool
    heard: bool


def cues(
    segments: Sequence[Segment], duration: float, limits: SubtitleStyle = DEFAULT_STYLE
) -> list[Cue]:
    """The subtitles of a recording of `duration` seconds, in order, none overlapping the next.

    Words keep the times they have. A segment without words shares its time among them by their
    number of characters. Where the times given overlap, the later start wins. Where channels were
    heard for themselves each has cues of its own, which name it, and may overlap the others'.
    """
    channels = sorted({segment.channel for segment in segments})
    found = [
        cue for channel in channels for cue in _channel_cues(segments, duration, channel, limits)
    ]
    return found if len(channels) < 2 else sorted(found, key=lambda cue: cue.start)


def _channel_cues(
    segments: Sequence[Segment], duration: float, channel: str, limits: SubtitleStyle
) -> list[Cue]:
    label = channel_label(channel)
    limits = replace(limits, max_chars=max(limits.max_chars - len(label), 1))
    own = [segment for segment in segments if segment.channel == channel]
    pieces = _in_order([piece for segment in own for piece in _pieces(segment, limits)])
    if not pieces:
        return []
    last_moment = max(pieces[-1].end, round(duration * 1000))
    groups = [
        group
        for run, next_start in _split_at_long_pauses(pieces, last_moment)
        for group in _best_groups(run, next_start, limits)
    ]
    found = _timed(groups, last_moment, limits)
    return [_labelled(cue, label) for cue in found] if label else found


def _labelled(cue: Cue, label: str) -> Cue:
    (first, *words), *lines = cue.words
    return replace(cue, words=((replace(first, text=label + first.text), *words), *lines))


def channel_label(channel: str) -> str:
    """What stands before the words of a channel that was heard for itself: '[left] '."""
    return f"[{channel}] " if channel else ""


def one_line(text: str) -> str:
    """The text with line breaks, tabs and control characters turned into single spaces.

    No-break spaces stay between what they hold together, not beside another space.
    """
    words = (word.strip() for word in BREAKING_SPACE.split(text))
    return " ".join(word for word in words if word)


def _pieces(segment: Segment, limits: SubtitleStyle) -> list[_Piece]:
    """The words of a segment, each short enough for a line."""
    spans = [(word.text, word.start, word.end) for word in segment.words]
    if not spans:
        spans = [(segment.text, segment.start, segment.end)]
    pieces = [
        piece
        for text, start, end in spans
        for piece in _shared(_parts(text, limits.max_chars), start, end, heard=bool(segment.words))
    ]
    if pieces:
        pieces[-1] = replace(pieces[-1], ends_segment=True)
    return pieces


def _parts(text: str, max_chars: int) -> list[str]:
    """The words of a text; one that is longer than a line (an address) is cut at its limit."""
    return [
        word[at : at + max_chars]
        for word in one_line(text).split(" ")
        for at in range(0, len(word), max_chars)
    ]


def _shared(parts: Sequence[str], start: float, end: float, *, heard: bool) -> Iterator[_Piece]:
    """The parts in a row from `start` to `end` (seconds), each as long as it has characters."""
    begin = max(0.0, start) * 1000
    length = max(0.0, end * 1000 - begin)
    total = sum(len(part) for part in parts)
    done = 0
    for part in parts:
        first = round(begin + length * done / total)
        done += len(part)
        last = round(begin + length * done / total)
        yield _Piece(part, first, last, ends_segment=False, heard=heard)


def _in_order(pieces: Sequence[_Piece]) -> list[_Piece]:
    """The pieces with starts that never go back and ends that never pass the next start."""
    starts = list(itertools.accumulate((piece.start for piece in pieces), max))
    nexts = [*starts, math.inf][1:]
    return [
        replace(piece, start=start, end=int(min(max(piece.end, start), following)))
        for piece, start, following in zip(pieces, starts, nexts, strict=True)
    ]


def _split_at_long_pauses(
    pieces: Sequence[_Piece], last_moment: int
) -> Iterator[tuple[Sequence[_Piece], int]]:
    """Pieces with no long pause between them, and the milliseconds at which the next begin."""
    begin = 0
    for index, (piece, following) in enumerate(itertools.pairwise(pieces), start=1):
        if following.start - piece.end >= LONG_PAUSE_MS:
            yield pieces[begin:index], following.start
            begin = index
    yield pieces[begin:], last_moment


def _best_groups(
    pieces: Sequence[_Piece], next_start: int, limits: SubtitleStyle
) -> list[Sequence[_Piece]]:
    """The pieces grouped into cues at the least total cost; `next_start` in milliseconds."""
    starts = [*(piece.start for piece in pieces), next_start]
    pauses = [following - piece.end for piece, following in zip(pieces, starts[1:], strict=True)]
    breaks = [_break_cost(piece, pause) for piece, pause in zip(pieces, pauses, strict=True)]
    best = [0.0] + [math.inf] * len(pieces)  # of all before this piece
    came_from = [0] * (len(pieces) + 1)
    for first in range(len(pieces)):
        running_on = 0.0
        for after, chars in _fitting(pieces, first, limits):
            time_shown = starts[after] - starts[first]
            cost = best[first] + running_on + breaks[after - 1]
            cost += _cue_cost(chars, time_shown, limits)
            if breaks[after - 1] == 0:
                running_on += COST_OF_RUNNING_ON * (1 + pauses[after - 1] / SHORT_PAUSE_MS)
            if cost < best[after]:
                best[after], came_from[after] = cost, first
    groups = []
    after = len(pieces)
    while after > 0:
        groups.append(pieces[came_from[after] : after])
        after = came_from[after]
    return groups[::-1]


def _fitting(
    pieces: Sequence[_Piece], first: int, limits: SubtitleStyle
) -> Iterator[tuple[int, int]]:
    """(index after the last piece, characters) of every cue from `first` that keeps the limits."""
    lines, in_line, chars = 1, -1, -1
    for index in range(first, len(pieces)):
        size = len(pieces[index].text)
        in_line += 1 + size
        chars += 1 + size
        if in_line > limits.max_chars:
            lines, in_line = lines + 1, size
        too_long = pieces[index].end - pieces[first].start > limits.max_duration * 1000
        if index > first and (lines > limits.max_lines or too_long):
            return
        yield index + 1, chars


def _break_cost(piece: _Piece, pause: float) -> float:
    """How bad it is to break after a piece that `pause` milliseconds of silence follow."""
    cost = _punctuation_cost(piece.text)
    if piece.ends_segment:  # not always a sentence: Whisper ends one where its line is full
        cost = min(cost, COST_OF_CLAUSE_BREAK)
    return cost * max(0.0, 1 - pause / SHORT_PAUSE_MS)


def _punctuation_cost(text: str) -> float:
    """How bad it is to break after a word, going by its last sign."""
    sign = text.rstrip(CLOSERS)[-1:]
    if text in TITLES:
        return 2 * COST_OF_WORD_BREAK
    if sign in SENTENCE_ENDS:
        return 0.0
    return COST_OF_CLAUSE_BREAK if sign in CLAUSE_ENDS else COST_OF_WORD_BREAK


def _cue_cost(chars: int, time_shown: float, limits: SubtitleStyle) -> float:
    """How bad a cue is by itself; `time_shown` is the milliseconds until the next may start."""
    fullness = chars / (limits.max_chars * limits.max_lines)
    cost = COST_PER_CUE + COST_OF_FULL_CUE * fullness**2
    cost += COST_OF_HASTE * max(0.0, 1 - time_shown / COMFORT_MS)
    if time_shown < limits.min_duration * 1000:
        cost += COST_OF_TOO_SHORT
    return cost


def _lines(pieces: Sequence[_Piece], max_chars: int) -> tuple[tuple[CueWord, ...], ...]:
    """The fewest lines that hold the pieces, even in length or broken at punctuation."""
    words = [CueWord(piece.text, piece.start / 1000, piece.heard) for piece in pieces]
    places = _places([piece.text for piece in pieces], max_chars)
    return tuple(tuple(words[a:b]) for a, b in itertools.pairwise((0, *places, len(words))))


def _places(words: Sequence[str], max_chars: int) -> tuple[int, ...]:
    """Before which words the best layout begins a line."""
    for breaks in range(len(words)):
        layouts = [
            (_layout_cost(lines), lines, places)
            for places in itertools.combinations(range(1, len(words)), breaks)
            if (lines := _cut(words, places)) and max(map(len, lines)) <= max_chars
        ]
        if layouts:
            return min(layouts)[2]
    return tuple(range(1, len(words)))


def _cut(words: Sequence[str], places: Sequence[int]) -> tuple[str, ...]:
    edges = [0, *places, len(words)]
    return tuple(" ".join(words[a:b]) for a, b in itertools.pairwise(edges))


def _layout_cost(lines: Sequence[str]) -> float:
    """Unevenness in characters; a break at a comma is worth 9 of them, at a full stop 12."""
    uneven = max(map(len, lines)) - min(map(len, lines))
    return uneven + sum(_punctuation_cost(line.split(" ")[-1]) for line in lines[:-1]) / 10


def _timed(
    groups: Sequence[Sequence[_Piece]], last_moment: int, limits: SubtitleStyle
) -> list[Cue]:
    """The groups with the times they are shown.

    A cue starts with its first word, but `READABLE_MS` after the one before. It ends some time
    after its last, when it could be read, but before the next starts. More cues than there is time
    for come 1 ms after one another at least, since a cue of no length is not valid.
    """
    timed: list[Cue] = []
    earliest = 0
    starts = spaced([group[0].start for group in groups], READABLE_MS, last_moment)
    for index, group in enumerate(groups):
        start = max(int(starts[index]), earliest)
        next_start = int(starts[index + 1]) if index + 1 < len(groups) else last_moment
        lines = _lines(group, limits.max_chars)
        chars = sum(len(word.text) + 1 for line in lines for word in line) - len(lines)
        last = index + 1 == len(groups)
        end = max(start + 1, _end(group, start, chars, next_start, limits, last=last))
        timed.append(Cue(start / 1000, end / 1000, lines))
        earliest = end
    return timed


def _end(
    group: Sequence[_Piece],
    start: int,
    chars: int,
    next_start: int,
    limits: SubtitleStyle,
    *,
    last: bool,
) -> int:
    """When a cue goes, in milliseconds; `last`: none follows at `next_start`."""
    speech_end = group[-1].end
    linger = round(limits.linger * 1000)
    readable = start + round(1000 * max(limits.min_duration, chars / limits.chars_per_second))
    end = max(speech_end + linger, readable)
    if next_start - end < linger:  # a gap that short would be seen as a flicker
        end = next_start
        if not last:  # with a gap before the next, where there is room for one
            shown = max(READABLE_MS, round(limits.min_duration * 1000))
            end = max(min(end, start + shown), end - round(limits.min_gap * 1000))
    return min(end, start + round(limits.max_duration * 1000))
