"""How far word starts and ends are from the truth, on clips joined at known places.

usage: python scripts/measure_words.py [MODEL_DIR] [--audio DIR] [--speakers A,B] [--clips 150]
                                       [--snr 45]

Single spoken digits are taken from the clips that come with the model, where pauses set all of
them apart, or from DIR: files named DIGIT_SPEAKER_NUMBER.flac, as in the Free Spoken Digit Dataset;
of these the speakers theo and yweweler were held out of the model's training. They are cut to their
speech (where the level is within 30 dB of the loudest 20 ms), joined with pauses of 0.1 to 0.6 s in
noise, and recognised by the tests' digits model. Clips whose words all come out right count. Times
are those of the model's frames, and as `stt.text.words` refines them.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recordings import DIGITS_MODEL, MODEL_HELP, rows
from stt.audio.files import open_audio
from stt.audio.samples import resampled
from stt.engine.folder import inspect
from stt.engine.recognizer import TRAILING_SILENCE, TdtRecognizer
from stt.models.onnx_asr_edge import Samples, load_tdt
from stt.text.words import refined, words
from stt.transcript import Word
from stt.types import SAMPLE_RATE

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PAUSE_S = 0.03
"""Seconds below 30 dB under the loudest that set two digits of a clip apart."""
FRAME_S = 0.08
_BLOCK = 80  # 5 ms


Spoken = tuple[str, Samples]
"""A word and the recording of it."""


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
    parser.add_argument("model", type=Path, nargs="?", default=DIGITS_MODEL, help=MODEL_HELP)
    parser.add_argument("--audio", type=Path, metavar="DIR", help="single spoken digits")
    parser.add_argument("--clips", type=int, default=150)
    parser.add_argument("--speakers", default="theo,yweweler")
    parser.add_argument("--snr", type=float, default=45.0, help="speech over noise, in dB")
    args = parser.parse_args()
    recognizer = TdtRecognizer(load_tdt(inspect(args.model), "fp32", "cpu", 0))
    if args.audio:
        spoken = recorded(args.audio, args.speakers.split(","))
    else:
        spoken = [cut_from_clips(DIGITS_MODEL / "clips")]
    clips = joined_clips(spoken, args.clips, args.snr)
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


def recorded(audio: Path, speakers: list[str]) -> list[list[Spoken]]:
    """Single digits of a folder, speaker by speaker."""
    found = [
        [(path.name[0], speech_of(path)) for path in sorted(audio.glob(f"?_{speaker}_*.flac"))]
        for speaker in speakers
    ]
    if not all(found):
        sys.exit(f"{audio}: no files named DIGIT_SPEAKER_NUMBER.flac of {', '.join(speakers)}")
    return [[(DIGITS[int(digit)], only_speech(samples)) for digit, samples in own] for own in found]


def cut_from_clips(folder: Path) -> list[Spoken]:
    """Single digits of the clips in which pauses set all digits apart."""
    spoken: list[Spoken] = []
    for row in rows(folder):
        said, samples = row["text"].split(), speech_of(folder / row["path"])
        pieces = pieces_of(samples)
        if len(pieces) == len(said):
            spoken += zip(said, map(only_speech, pieces), strict=True)
    return spoken


def pieces_of(samples: Samples) -> list[Samples]:
    """What lies between pauses of PAUSE_S."""
    loud = np.flatnonzero(loudness(samples))
    breaks = np.flatnonzero(np.diff(loud) > PAUSE_S * SAMPLE_RATE)
    edges = zip([0, *(breaks + 1)], [*breaks, len(loud) - 1], strict=True)
    return [samples[loud[first] : loud[last] + 1] for first, last in edges]


def speech_of(path: Path) -> Samples:
    """A recording at 16 kHz."""
    with open_audio(path) as stream:
        return np.concatenate(list(resampled(stream.blocks, stream.sample_rate)))


def joined_clips(spoken: list[list[Spoken]], count: int, snr: float) -> list[Joined]:
    """Clips of three to seven digits of one speaker, the same on every call."""
    rng = np.random.default_rng(11)
    clips = []
    for number in range(count):
        own = spoken[number % len(spoken)]
        chosen = rng.choice(len(own), rng.integers(3, 8), replace=len(own) < 8)
        clips.append(joined([own[i] for i in chosen], snr, rng))
    return clips


def joined(spoken: list[Spoken], snr: float, rng: np.random.Generator) -> Joined:
    """Digits one after the other, with pauses, in noise `snr` dB below speech."""
    parts, places = [np.zeros(int(rng.uniform(0.3, 0.7) * SAMPLE_RATE), np.float32)], []
    for _, speech in spoken:
        begin = sum(map(len, parts))
        places.append((begin / SAMPLE_RATE, (begin + len(speech)) / SAMPLE_RATE))
        pause = np.zeros(int(rng.uniform(0.1, 0.6) * SAMPLE_RATE), np.float32)
        parts += [0.1 * speech / np.sqrt(np.mean(speech**2)), pause]
    clip = np.concatenate(parts)
    noise = 0.1 * 10 ** (-snr / 20) * rng.standard_normal(len(clip))
    return Joined(
        (clip + noise).astype(np.float32), tuple(word for word, _ in spoken), tuple(places)
    )


def only_speech(samples: Samples) -> Samples:
    """From the first to the last moment within 30 dB of the loudest 20 ms."""
    loud = np.flatnonzero(loudness(samples))
    return samples[loud[0] : loud[-1] + 1]


def loudness(samples: Samples) -> np.ndarray:
    """Whether each moment is within 30 dB of the loudest 20 ms, bool [n]."""
    power = np.convolve(samples.astype(np.float64) ** 2, np.ones(4 * _BLOCK), "same")
    return power >= 1e-3 * power.max()


def matched(recognizer: TdtRecognizer, clip: Joined) -> list[Word]:
    """Recognised words with the times of the model's frames; none where a word is wrong."""
    tokens = recognizer.tokens(np.append(clip.samples, np.zeros(TRAILING_SILENCE, np.float32)))
    found = words(tokens, FRAME_S, 0.0, len(clip.samples) / SAMPLE_RATE)
    return found if tuple(word.text for word in found) == clip.words else []


if __name__ == "__main__":
    main()
