"""What one precision of a model gives on speech: encoder frames, decoding steps, tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil

from stt.engine.folder import ModelFolder
from stt.engine.recognizer import Decoded, DecoderStep, Feed, Probe
from stt.errors import ModelError
from stt.types import SAMPLE_RATE, Floats, Samples

STEPS = 200
"""Decoding steps whose logits are compared, at most."""
REFERENCES = "references.tsv"
_BUNDLED = Path(__file__).parent / "speech"


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording and what is said in it."""

    name: str
    samples: Samples
    """float32 [n] at 16 kHz."""
    text: str


def bundled_clips(folder: Path | None = None) -> tuple[Clip, ...]:
    """Read the clips listed in a folder's `references.tsv` (file name, tab, text).

    Args:
        folder: another one than the speech that comes with the application.

    Raises:
        ModelError: the folder or a clip is missing.
    """
    from stt.audio.files import open_audio
    from stt.audio.samples import resampled

    folder = folder or _BUNDLED
    if not (folder / REFERENCES).is_file():
        raise ModelError(f"{folder}: the speech to prove models on is missing; install stt again")
    clips = []
    for line in (folder / REFERENCES).read_text("utf-8").splitlines():
        name, text = line.split("\t")
        if name == "file":
            continue  # the heading
        with open_audio(folder / name) as stream:
            blocks = list(resampled(stream.blocks, stream.sample_rate))
        clips.append(Clip(name, np.concatenate(blocks), text))
    return tuple(clips)


def of_length(clips: tuple[Clip, ...], seconds: float) -> Samples:
    """Speech of exactly this many seconds: the clips one after the other, again and again."""
    speech = np.concatenate([clip.samples for clip in clips])
    wanted = round(seconds * SAMPLE_RATE)
    return np.resize(speech, wanted)


@dataclass(frozen=True, slots=True)
class Observation:
    """What one precision of a model gave."""

    encoded: Mapping[float, tuple[Floats, int]]
    """Seconds of audio -> (all frames [T, D], the length it gave)."""
    decoded: tuple[Decoded, ...]
    """Of each clip, by the decoder as a whole. Of steps the first of all clips, with the logits
    that this precision gave for FP32's inputs."""
    frames: tuple[Floats, ...] = ()
    """Encoder frames [T, D] of each clip, as many as the model says."""

    @property
    def tokens(self) -> tuple[tuple[int, ...], ...]:
        """Of each clip; empty also where the model returned NaN."""
        return tuple(one.tokens for one in self.decoded)

    @property
    def texts(self) -> tuple[str, ...]:
        """Of each clip."""
        return tuple(one.text for one in self.decoded)

    @property
    def steps(self) -> tuple[DecoderStep, ...]:
        """Of all clips."""
        return tuple(step for one in self.decoded for step in one.steps)


def load(folder: ModelFolder, precision: str) -> Probe:
    """Load the files of a precision themselves: not its tuned form or parts.

    Raises:
        ModelError: it does not load.
    """
    return folder.family.probe(folder.as_published, precision)


def observe(
    probe: Probe,
    durations: Sequence[float],
    clips: Sequence[Clip],
    heard: Callable[[float], None] = lambda _: None,
    *,
    like: Observation | None = None,
    most_steps: int | None = STEPS,
) -> Observation:
    """Run a loaded model over speech of all durations and over the clips.

    Args:
        probe: one precision.
        durations: seconds.
        clips: speech.
        heard: called with the seconds of speech that have just been run.
        like: FP32's observation, whose decoding steps are repeated; None for FP32 itself.
        most_steps: of FP32, to keep; None: all.
    """
    encoded = {}
    for seconds in durations:
        encoded[seconds] = probe.encode(of_length(tuple(clips), seconds))
        heard(seconds)
    kept = 0
    frames, decoded = [], []
    for place, clip in enumerate(clips):
        given, length = probe.encode(clip.samples)
        one = probe.decode(given, length)
        frames.append(given[: max(length, 0)])
        if like is None:
            steps = one.steps if most_steps is None else one.steps[: most_steps - kept]
        else:
            steps = _repeated(probe, given, like.decoded[place].steps)
        kept += len(steps)
        decoded.append(replace(one, steps=steps))
        heard(len(clip.samples) / SAMPLE_RATE)
    return Observation(encoded, tuple(decoded), tuple(frames))


def _repeated(
    probe: Probe, frames: Floats, steps: Sequence[DecoderStep]
) -> tuple[DecoderStep, ...]:
    """Return another precision's steps with the logits that come out here."""
    found = probe.repeat(frames, steps)
    return tuple(replace(step, logits=one) for step, one in zip(steps, found, strict=True))


def feeds(probe: Probe, clips: Sequence[Clip]) -> tuple[list[Feed], list[Feed]]:
    """Inputs of FP32's graphs on real speech: of the encoder, and of what is behind it if any."""
    encoder = [probe.encoder_feed(of_length(tuple(clips), seconds)) for seconds in (5.0, 20.5)]
    steps = observe(probe, (), clips[:1]).steps
    return encoder, [probe.decoder_feed(step) for step in steps[::20]]


def graph_bytes(graph: Path) -> int:
    """Size of a graph and of the weights beside it."""
    data = graph.with_name(f"{graph.name}.data")
    return graph.stat().st_size + (data.stat().st_size if data.exists() else 0)


def memory_needed(folder: ModelFolder, precision: str, seconds: float) -> int:
    """Bytes that running the encoder on so much audio may take, with some room.

    The graph: three and a half times its file, as float16 becomes float32 on a CPU. Attention:
    fourteen matrices of eight heads over all encoder frames in float32, as measured with the arena
    (without it every matrix is fresh pages: 300 s of audio took 2.3 times as long for no less).
    """
    size = graph_bytes(folder.path / folder.family.graphs(precision)[0])
    factor = 3.5 if precision != "fp32" else 1.5
    return int(factor * size + 14 * 8 * 4 * (seconds * 12.5) ** 2)


def possible(folder: ModelFolder, precision: str, durations: Sequence[float]) -> tuple[float, ...]:
    """Those of some durations in seconds that the model takes and the free memory has room for."""
    free = psutil.virtual_memory().available
    return tuple(
        seconds
        for seconds in durations
        if seconds < folder.max_audio_s and memory_needed(folder, precision, seconds) < free
    )
