"""How far word starts and ends are from the truth, on clips joined at known places.

usage: python scripts/measure_words.py [MODEL_DIR] [--audio ../shared/audio/digits] [--clips 150]
                                       [--speakers theo,yweweler] [--snr 45]

Single spoken digits are cut to their speech (where the level is within 30 dB of the loudest 20 ms),
joined with pauses of 0.1 to 0.6 s in noise, and recognised by the tests' digits model. Clips whose
words all come out right count. Times are those of the model's frames, and as `stt.word_edges`
refines them. The speakers that are taken were held out of the model's training.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stt.audio.files import open_audio
from stt.audio.resample import SAMPLE_RATE, resampled
from stt.engine.onnx_asr_models import Samples, load_tdt
from stt.engine.recognizer import TRAILING_SILENCE, TdtRecognizer
from stt.models.folder import inspect
from stt.transcript import Word
from stt.word_edges import refined
from stt.words import words

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MODEL = Path(__file__).parents[1] / "tests" / "data" / "parakeet-digits"
FRAME_S = 0.08
_BLOCK = 80  # 5 ms


@dataclass(frozen=True)
class Joined:
    """A clip and where its words lie."""

    samples: Samples
    words: tuple[str, ...]
    places: tuple[tuple[float, float], ...]
    """Seconds: start and end of each word."""


def main() -> None:
    """Join, recognise, and print one line for starts and one for ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", default=MODEL)
    parser.add_argument("--audio", type=Path, default=Path("../shared/audio/digits"))
    parser.add_argument("--clips", type=int, default=150)
    parser.add_argument("--speakers", default="theo,yweweler")
    parser.add_argument("--snr", type=float, default=45.0, help="speech over noise, in dB")
    args = parser.parse_args()
    recognizer = TdtRecognizer(load_tdt(inspect(args.model), "fp32", "cpu", 0))
    clips = joined_clips(args.audio, args.speakers.split(","), args.clips, args.snr)
    found = [(clip, words_found) for clip in clips if (words_found := matched(recognizer, clip))]
    told = sum(len(clip.words) for clip in clips)
    print(f"{sum(len(words) for _, words in found)} words of {told} in right clips")
    for how, edges in (("by frames", lambda words, _: words), ("refined", refined)):
        pairs = [
            pair
            for clip, words in found
            for pair in zip(edges(words, clip.samples), clip.places, strict=True)
        ]
        report(how, pairs)


def report(how: str, pairs: list[tuple[Word, tuple[float, float]]]) -> None:
    """Print the errors of starts and of ends."""
    for name, index in (("starts", 0), ("ends", 1)):
        off = np.array([(word.start, word.end)[index] - place[index] for word, place in pairs])
        print(
            f"{how}, {name}: mean absolute error {1e3 * np.abs(off).mean():.1f} ms, "
            f"mean {1e3 * off.mean():+.1f}, median {1e3 * np.median(off):+.1f}, "
            f"90 % within {1e3 * np.quantile(np.abs(off), 0.9):.0f} ms"
        )


def joined_clips(audio: Path, speakers: list[str], count: int, snr: float) -> list[Joined]:
    """Clips of three to seven digits of one speaker, the same on every call."""
    rng = np.random.default_rng(11)
    paths = {s: sorted(audio.glob(f"?_{s}_*.flac")) for s in speakers}
    clips = []
    for number in range(count):
        speaker = speakers[number % len(speakers)]
        chosen = rng.choice(len(paths[speaker]), rng.integers(3, 8), replace=False)
        clips.append(joined([paths[speaker][i] for i in chosen], snr, rng))
    return clips


def joined(paths: list[Path], snr: float, rng: np.random.Generator) -> Joined:
    """The recordings one after the other, with pauses, in noise `snr` dB below speech."""
    parts, places = [np.zeros(int(rng.uniform(0.3, 0.7) * SAMPLE_RATE), np.float32)], []
    for path in paths:
        with open_audio(path) as stream:
            samples = np.concatenate(list(resampled(stream.blocks, stream.sample_rate)))
        speech = only_speech(samples)
        begin = sum(map(len, parts))
        places.append((begin / SAMPLE_RATE, (begin + len(speech)) / SAMPLE_RATE))
        pause = np.zeros(int(rng.uniform(0.1, 0.6) * SAMPLE_RATE), np.float32)
        parts += [0.1 * speech / np.sqrt(np.mean(speech**2)), pause]
    clip = np.concatenate(parts)
    noise = 0.1 * 10 ** (-snr / 20) * rng.standard_normal(len(clip))
    return Joined(
        (clip + noise).astype(np.float32),
        tuple(DIGITS[int(path.name[0])] for path in paths),
        tuple(places),
    )


def only_speech(samples: Samples) -> Samples:
    """From the first to the last moment within 30 dB of the loudest 20 ms."""
    power = np.convolve(samples.astype(np.float64) ** 2, np.ones(4 * _BLOCK), "same")
    loud = np.flatnonzero(power >= 1e-3 * power.max())
    return samples[loud[0] : loud[-1] + 1]


def matched(recognizer: TdtRecognizer, clip: Joined) -> list[Word]:
    """Recognised words with the times of the model's frames; none where a word is wrong."""
    tokens = recognizer.tokens(np.append(clip.samples, np.zeros(TRAILING_SILENCE, np.float32)))
    found = words(tokens, FRAME_S, 0.0, len(clip.samples) / SAMPLE_RATE)
    return found if tuple(word.text for word in found) == clip.words else []


if __name__ == "__main__":
    main()
