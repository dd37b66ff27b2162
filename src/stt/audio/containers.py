"""What FFmpeg reads, through PyAV: mp3, ogg, m4a, mp4, webm, mkv and the rest.

A container places its frames in time. The samples follow that clock: where a track starts late or
pauses (a video whose sound begins after its picture, a call with a muted part) silence is put in,
so that times in the transcript are times in the player.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from stt.audio.headers import caf_seconds, ends_mid_page, xing_seconds
from stt.audio.selection import Selection, chosen, clock, described
from stt.audio.stream import (
    BLOCK,
    SIZE_UNKNOWN,
    Damage,
    RawAudio,
    check_length,
    damaged,
    ffmpeg_command,
    is_short,
    truncated,
)
from stt.errors import AudioError
from stt.types import Samples

_EXACT = frozenset({"matroska", "mov", "ogg", "flac", "wv"})
"""Formats whose duration is written down. Others' is guessed from the bit rate, often badly."""
_ONE_ALONE = frozenset({"mov", "asf", "flv", "tta"})
"""Formats of which FFmpeg reads only the first of several recordings in one file."""
_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD")
"""Heads of files that name other files; FFmpeg would wait for a playlist to grow, for ever."""
_PAUSE = 0.1
"""Seconds by which frames may stray from their place before silence is put in."""
_LONGEST_PAUSE = 60.0
"""Seconds of silence believed where nothing vouches for it; more may be a clock that jumps."""
_BACKWARDS = 1.0
"""Seconds by which a clock may go back before it is taken for another one."""
_LEAST_BITS = 500
"""Bits per second below which no recording is coded: its clock jumps."""
_FROM_ZERO = frozenset({"matroska", "ogg"})
"""Formats whose duration counts from 0, wherever the clock starts."""
_SEEKABLE = frozenset({"matroska", "mov"})
"""Formats with an index of places."""
_SEEK_MARGIN = 1.0
"""Seconds before the place sought: decoders need some to begin."""
_SKIPPED_BYTES = 512
"""More bytes than lie between two packets of a sound file in order."""
_LOST_SECONDS = 0.25
"""Damaged mp3 frames passed over: streams are cut and joined anywhere, all players allow it."""
_APART = 5.0
"""Seconds between two damages that count as two."""


def open_container(
    path: Path, name: str, stack: ExitStack, selection: Selection, damage: Damage
) -> RawAudio:
    """Open a sound track.

    Args:
        path: a regular file.
        name: what messages call it.
        stack: closes the container.
        selection: says which track; its start is sought to where there is an index.
        damage: takes what is wrong with it.

    Raises:
        AudioError: not a recording, cut short, or without sound.
    """
    import av

    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(_PLAYLISTS):
        raise AudioError(f"{name}: is a list, not a recording; name the recordings themselves")
    # no file that names others may make us reach for the network
    options = {"protocol_whitelist": "file"}
    if head.startswith(b"RIFF") and int.from_bytes(head[4:8], "little") >= SIZE_UNKNOWN:
        options["ignore_length"] = "1"  # a piped wav: read to the end of the file
    try:
        # "file:" keeps a colon in the name from being read as a protocol
        opened = av.open(f"file:{path}", options=options, **_lenient(av.__version__))
    except (av.FFmpegError, ValueError) as error:
        raise _not_read(name, head, _reason(error)) from error
    container: Any = stack.enter_context(opened)
    tracks = [track for track in container.streams.audio if track.codec_context is not None]
    if not tracks:
        raise AudioError(
            f"{name}: has no sound track that can be read; name a recording with sound"
        )
    number = chosen(tracks, selection.track, name)
    track = tracks[number - 1]
    if not track.codec_context.sample_rate:
        raise _not_read(name, head, "no sample rate")
    if container.format.name == "ogg" and ends_mid_page(path):
        damage.meet(truncated(name, "its last page is incomplete"))
    if container.format.name.split(",")[0] in _ONE_ALONE and _comes_again(path):
        damage.note("another recording lies behind its end and is left out: cut it off")
    reader = _TrackReader(container, track, name, path, damage)
    began = reader.seek(selection.start)
    return RawAudio(
        reader.rate,
        reader.duration,
        int(track.codec_context.channels),
        reader.blocks(),
        began,
        number,
        described(tracks),
    )


def _comes_again(path: Path) -> bool:
    """Whether a file's first 12 bytes come again in it: another recording lies behind it."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return len(data) > 12 and data.find(data[:12], 12) >= 0


def _lenient(version: str) -> dict[str, Any]:
    """Return what has PyAV pass over titles that are no UTF-8: from 19 on it does so by itself."""
    return {"metadata_errors": "ignore"} if int(version.partition(".")[0]) < 19 else {}


def _not_read(name: str, head: bytes, detail: str) -> AudioError:
    if head[4:8] == b"ftyp":
        return AudioError(
            f"{name}: truncated: its index (moov) is missing or damaged, as when a recorder is cut "
            "off; copy it again, or export it anew where it was recorded"
        )
    command = ffmpeg_command(name, "out.wav")
    cure = f"convert it with `{command}`" if command else "convert it to wav first"
    return AudioError(
        f"{name}: not a recording that can be read ({detail}); if it plays elsewhere, {cure}"
    )


def _reason(error: Exception) -> str:
    """Return what FFmpeg says without its own names for files and functions."""
    return getattr(error, "strerror", None) or str(error)


class _TrackReader:
    """Decodes one track of a container into float32 channels at the track's rate."""

    def __init__(self, container: Any, track: Any, name: str, path: Path, damage: Damage) -> None:
        self._container, self._track, self._name = container, track, name
        self._damage = damage
        self._damaged_at = -_APART  # seconds of the last damage that was met
        self._format = container.format.name.split(",")[0]
        self.rate = int(track.codec_context.sample_rate)
        self._size = path.stat().st_size
        self._origin = (container.start_time or 0) / 1e6
        stated = None if container.duration is None else container.duration / 1e6
        if stated and self._size * 8 / stated < _LEAST_BITS and self._format not in _EXACT:
            stated = None  # guessed from a clock that jumps
        if stated and self._format in _FROM_ZERO and stated > self._origin > 0:
            stated -= self._origin
        self.duration = stated
        self._promised = stated if self._format in _EXACT else None
        if self._format == "mp3":
            self._promised = xing_seconds(path, self.rate)
        if self._format == "caf":  # FFmpeg goes by the size of the file
            self._promised = caf_seconds(path)
        self._done = 0  # samples
        self._reached = 0.0  # seconds to which any track's packets reach
        self._others: list[float] = []  # seconds of other tracks' packets since the last frame
        self._place = 0  # bytes of the file to which packets reach
        self._skipped = False  # whether bytes were passed over since the last frame
        self._skipped_at: float | None = None  # seconds at which they were first
        self._lost = 0.0  # seconds
        self._resampler: Any = None
        self._shape: tuple[str, str, int] | None = None

    def seek(self, start: float) -> int:
        """Go near a place, where the file has an index; returns the samples before it."""
        import av

        if start <= _SEEK_MARGIN or self._format not in _SEEKABLE:
            return 0
        target = round((start - _SEEK_MARGIN + self._origin) * 1e6)
        try:
            self._container.seek(target, backward=True)
            first = next(self._container.decode(self._track))
            at = float(first.pts * first.time_base) - self._origin
            self._container.seek(target, backward=True)
        except (av.FFmpegError, StopIteration, TypeError):  # beyond the end, or without times
            self._container.seek(0)
            return 0
        self._done = max(0, round(at * self.rate)) if at <= start else 0
        if at > start:
            self._container.seek(0)
        return self._done

    def blocks(self) -> Iterator[Samples]:
        """Yield float32 [n, channels] blocks of about BLOCK frames."""
        parts: list[Samples] = []
        pending = 0
        for part in self._parts():
            if parts and parts[0].shape[1] != part.shape[1]:
                yield np.concatenate(parts)
                parts, pending = [], 0
            parts.append(part)
            pending += len(part)
            self._done += len(part)
            if pending >= BLOCK:
                yield np.concatenate(parts)
                parts, pending = [], 0
        if pending:
            yield np.concatenate(parts)
        read = max(self._reached, self._done / self.rate)
        if self._format == "mp3" and self._skipped_at is not None:
            self._check_mp3(self._skipped_at, read)
        elif self._promised and read - self._damaged_at >= _APART:  # else that is known already
            check_length(self._name, read, self._promised, self._damage)

    def _check_mp3(self, skipped_at: float, read: float) -> None:
        """Meet damage where sound is missing of an mp3 of which bytes were passed over."""
        # by the bit rate where no header promises a length: the word of a constant one is good
        guess = self.duration if self._damage.tolerant else None
        lost = (self._promised or guess or 0.0) - read
        if lost > _LOST_SECONDS:
            detail = f"{lost:.1f} s cannot be read, there or later"
            self._damage.meet(damaged(self._name, skipped_at, detail))

    def _parts(self) -> Iterator[Samples]:
        for packet in self._packets():
            for frame in self._frames(packet):
                yield from _silence(self._pause(frame), len(frame.layout.channels))
                yield from self._channels(frame)
        yield from self._channels(None)

    def _packets(self) -> Iterator[Any]:
        """Yield the track's packets; the others tell how far the file reaches."""
        import av

        expected = None  # where the next packet's bytes should begin
        try:
            for packet in self._container.demux():
                own = packet.stream.index == self._track.index
                if packet.pts is not None:
                    end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                    self._reached = max(self._reached, end - self._origin)
                    if not own and (not self._others or end - self._others[-1] > _PAUSE):
                        self._others.append(end)
                if packet.pos is not None and packet.pos >= 0:
                    if expected is not None and packet.pos - expected > _SKIPPED_BYTES:
                        self._skipped = True
                        self._note_skipped()
                    expected = self._place = packet.pos + packet.size
                if own:
                    yield packet
        except av.FFmpegError as error:
            if self._promised and not is_short(self._done / self.rate, self._promised):
                self._damage.note(f"what lies behind its end is not read ({_reason(error)})")
            else:
                self._meet(_reason(error))

    def _frames(self, packet: Any) -> list[Any]:
        import av

        try:
            return list(packet.decode())
        except (av.FFmpegError, ValueError) as error:
            self._lost += float((packet.duration or 0) * (packet.time_base or 0))
            self._note_skipped()
            if self._format != "mp3" or self._lost > _LOST_SECONDS:
                self._meet(_reason(error))
            return []

    def _note_skipped(self) -> None:
        if self._skipped_at is None:
            self._skipped_at = self._done / self.rate

    def _pause(self, frame: Any) -> int:
        """Return the samples of silence that belong before a frame."""
        skipped, self._skipped = self._skipped, False
        others, self._others = self._others, []
        if frame.pts is None:
            return 0
        at = float(frame.pts * frame.time_base) - self._origin
        pause = at - self._done / self.rate
        if pause <= _PAUSE:
            if pause < -_BACKWARDS and self._format != "matroska":
                self._origin += pause  # the clock of another recording
                self._reached = self._done / self.rate
            return 0
        if not self._is_believed(pause, at, others):
            self._origin += pause
            self._reached = self._done / self.rate
            self._damage.note(
                f"its clock jumps by {clock(pause)} at {clock(self._reached)}, as where recordings "
                "were joined; the sound goes on there"
            )
            return 0
        # FFmpeg passes over damage in these two without a word; Ogg has no pauses of its own
        if (skipped and self._format == "matroska") or (self._done and self._format == "ogg"):
            self._meet(f"{pause:.1f} s cannot be read")
        return round(pause * self.rate)

    def _is_believed(self, pause: float, at: float, others: list[float]) -> bool:
        """Tell a hole, such as a recorder leaves, from a clock that jumps.

        For a hole vouch the length that the container states, packets of another track within it,
        or that it is short beside what a file of this size can hold.
        """
        if any(0.1 * pause < at + self._origin - other < 0.9 * pause for other in others):
            return True
        coded = self._place / max(1.0, self._done / self.rate)  # bytes per second
        could_hold = self._size / max(coded, _LEAST_BITS / 8)
        if self._promised is not None:
            return at <= self._promised + 1.0 and pause <= max(3600.0, could_hold)
        return pause <= max(_LONGEST_PAUSE, could_hold)

    def _channels(self, frame: Any) -> Iterator[Samples]:
        """Convert a frame, None for the end; joined recordings may change format in between."""
        import av

        shape = frame and (frame.format.name, frame.layout.name, frame.sample_rate)
        ready: list[Any] = []
        if shape != self._shape:
            ready = self._resampler.resample(None) if self._resampler else []
            self._resampler = av.AudioResampler(format="fltp", rate=self.rate)
            self._shape = shape
        if frame is not None:
            frame.pts = None  # the resampler would follow it; `_pause` does
            ready += self._resampler.resample(frame)
        for plain in ready:
            yield plain.to_ndarray().T

    def _meet(self, detail: str) -> None:
        """Meet damage here; what follows soon after it is the same."""
        at = self._done / self.rate
        if at - self._damaged_at >= _APART:
            self._damage.meet(damaged(self._name, at, detail))
            self._damaged_at = at


def _silence(samples: int, channels: int) -> Iterator[Samples]:
    for start in range(0, samples, BLOCK):
        yield np.zeros((min(BLOCK, samples - start), channels), np.float32)
