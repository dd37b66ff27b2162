"""Write the held-out test sets, and the few clips that are committed with the model.

Each set is a folder of 16 kHz FLAC files with a `references.tsv` (file, text, voice). Only voices,
settings and speakers of the held-out bank are used, and recorded noises kept out of training.

    python testsets.py --bank DIR/heldout.npz --noise DIR --out DIR
    python testsets.py --clips DIR
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from bank import SAMPLE_RATE, Bank, Utterance, scale_peak, trim_silence
from examples import Composer
from mixing import (
    NoiseSource,
    active_power,
    add_noise,
    band_limit,
    load_noise,
    quantise,
    seconds,
    set_peak_db,
    silence,
)
from voices import ESPEAK_VARIANTS, HELD_OUT, read_command_output, speak_flite, speak_piper

SYNTHETIC = ("espeak", "flite", "piper")
LONG_S = 30.0
LONG_COUNT = 24
NO_SPEECH_COUNT = 200


@dataclass(frozen=True)
class Clip:
    """A test recording, what is said in it, and by which voice."""

    samples: np.ndarray
    text: str
    voice: str


def write_set(folder: Path, clips: Iterator[Clip] | list[Clip]) -> None:
    """Write clips as `000.flac`, `001.flac`, ... and their references."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "references.tsv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, delimiter="\t", lineterminator="\n")
        table.writerow(["file", "text", "voice"])
        for index, clip in enumerate(clips):
            name = f"{index:03d}.flac"
            soundfile.write(folder / name, quantise(clip.samples), SAMPLE_RATE, subtype="PCM_16")
            table.writerow([name, clip.text, clip.voice])


def surround(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Put 0.2 to 0.8 s of silence around speech, at a peak of -20 to -1 dBFS."""
    padded = np.concatenate([silence(0.2, 0.8, rng), samples, silence(0.2, 0.8, rng)])
    return set_peak_db(padded, rng.uniform(-20.0, -1.0))


def with_noise(
    clip: Clip, noise: NoiseSource, snr_db: tuple[float, float], rng: np.random.Generator
) -> Clip:
    """Add noise of a random kind at a random SNR in dB."""
    unit = noise.draw(len(clip.samples), rng)
    noisy = add_noise(clip.samples, active_power(clip.samples), rng.uniform(*snr_db), unit)
    return Clip(set_peak_db(noisy, rng.uniform(-25.0, -1.0)), clip.text, clip.voice)


def synthetic_clips(bank: Bank, rng: np.random.Generator) -> list[Clip]:
    """Every held-out synthetic utterance, in silence."""
    indices = [i for voice in bank.voices(SYNTHETIC) for i in bank.by_voice[voice]]
    utterances = [bank[i] for i in indices]
    return [Clip(surround(u.samples, rng), u.text, u.voice) for u in utterances]


def join(utterances: list[Utterance], gap_s: tuple[float, float], rng: np.random.Generator) -> Clip:
    """Join utterances of one voice with silences of random length."""
    parts = [utterances[0].samples]
    for utterance in utterances[1:]:
        parts += [silence(*gap_s, rng), utterance.samples]
    text = " ".join(utterance.text for utterance in utterances)
    return Clip(np.concatenate(parts), text, utterances[0].voice)


def real_clips(bank: Bank, rng: np.random.Generator) -> list[Clip]:
    """Every clip of the held-out speakers once, in strings of 1 to 8 with gaps of 50 to 500 ms."""
    clips = []
    for voice in bank.voices(["fsdd"]):
        order = [int(i) for i in rng.permutation(bank.by_voice[voice])]
        while order:
            count = int(rng.integers(1, 9))
            chosen, order = order[:count], order[count:]
            string = join([bank[i] for i in chosen], (0.05, 0.5), rng)
            clips.append(Clip(surround(string.samples, rng), string.text, voice))
    return clips


def single_clips(bank: Bank, rng: np.random.Generator) -> list[Clip]:
    """Every clip of the held-out speakers alone, in silence."""
    indices = [i for voice in bank.voices(["fsdd"]) for i in bank.by_voice[voice]]
    return [Clip(surround(bank[i].samples, rng), bank[i].text, bank[i].voice) for i in indices]


def segment_clips(
    clips: list[Clip], noise: NoiseSource, rng: np.random.Generator
) -> Iterator[Clip]:
    """What a segmenter delivers: room noise for 0.3 to 0.6 s, speech, 0.5 s of digital zero."""
    for clip in clips:
        speech = trim_silence(clip.samples)
        lead = np.concatenate([silence(0.3, 0.6, rng), speech])
        noisy = with_noise(Clip(lead, clip.text, clip.voice), noise, (20.0, 35.0), rng)
        tail = np.zeros(seconds(0.5), dtype=np.float32)
        yield Clip(np.concatenate([noisy.samples, tail]), clip.text, clip.voice)


def long_clips(clips: list[Clip], noise: NoiseSource, rng: np.random.Generator) -> Iterator[Clip]:
    """Recordings of about 30 s: strings of several voices with gaps of 0.3 to 2.5 s and noise."""
    for _ in range(LONG_COUNT):
        parts: list[np.ndarray] = []
        texts: list[str] = []
        while True:
            clip = clips[rng.integers(len(clips))]
            speech = set_peak_db(trim_silence(clip.samples), rng.uniform(-12.0, -3.0))
            if sum(map(len, parts)) + len(speech) > seconds(LONG_S):
                break
            parts += [speech, silence(0.3, 2.5, rng)]
            texts.append(clip.text)
        joined = Clip(np.concatenate(parts), " ".join(texts), "mixed/long")
        yield with_noise(joined, noise, (15.0, 35.0), rng)


def write_test_sets(bank: Bank, noise: NoiseSource, out: Path) -> None:
    """Write all sets; each has its own seed, so that one can change without the others."""
    rngs = iter(np.random.default_rng(77).spawn(9))
    synthetic = synthetic_clips(bank, next(rngs))
    real = real_clips(bank, next(rngs))
    write_set(out / "synthetic-clean", synthetic)
    rng = next(rngs)
    noisy = (with_noise(clip, noise, (5.0, 30.0), rng) for clip in synthetic)
    write_set(out / "synthetic-noisy", noisy)
    write_set(out / "synthetic-segments", segment_clips(synthetic, noise, next(rngs)))
    write_set(out / "synthetic-long", long_clips(synthetic, noise, next(rngs)))
    write_set(out / "real-strings", real)
    write_set(out / "real-singles", single_clips(bank, next(rngs)))
    rng = next(rngs)
    write_set(out / "real-noisy", (with_noise(clip, noise, (10.0, 30.0), rng) for clip in real))
    rng = next(rngs)
    composer = Composer(bank, noise)
    empty = [composer.no_speech(rng).samples for _ in range(NO_SPEECH_COUNT)]
    write_set(out / "no-speech", [Clip(samples, "", "none/none") for samples in empty])


def speak(voice: str, text: str, rng: np.random.Generator) -> np.ndarray:
    """Speak with a held-out voice: `flite`, `piper`, or an espeak-ng voice name."""
    if voice == "flite":
        samples, _ = speak_flite(text, HELD_OUT, rng)
    elif voice == "piper":
        samples, _ = speak_piper(text, HELD_OUT, rng)
    else:
        assert voice.split("+")[1] in ESPEAK_VARIANTS[HELD_OUT]
        samples = read_command_output(["espeak-ng", "-v", voice, "-s", "155", text, "-w"])
    return scale_peak(trim_silence(samples), 0.7)


# Name, voice, text ("|" is a pause of 1 s), SNR in dB or None, ends with the last sample of speech.
COMMITTED_CLIPS = (
    ("one-digit", "en-us+f3", "seven", None, False),
    ("two-digits", "piper", "one two", None, False),
    ("three-digits-cut-at-end", "flite", "six two eight", None, True),
    ("four-digits", "flite", "four zero nine two", None, False),
    ("five-digits-pause", "piper", "zero four four | nine six", None, False),
    ("five-digits-rp", "en-gb-x-rp+linda", "eight six one five three", None, False),
    ("six-digits-noise-20db", "piper", "five nine zero zero two one", 20.0, False),
    ("seven-digits-noise-12db", "flite", "three one four one five nine two", 12.0, False),
    ("eight-digits", "en-gb+m4", "two seven one eight two eight one eight", None, False),
    ("three-digits-telephone", "en-us+Alex", "nine nine eight", 25.0, False),
)


def committed_clip(voice: str, text: str, snr_db: float | None, ends_in_speech: bool) -> np.ndarray:
    """Make one committed clip; only generated noise, so that no recording's licence applies."""
    rng = np.random.default_rng([len(text), ord(voice[0])])
    pause = np.zeros(seconds(1.0), dtype=np.float32)
    parts = [np.zeros(seconds(0.4), dtype=np.float32)]
    for index, phrase in enumerate(text.split("|")):
        parts += [pause] * (index > 0) + [speak(voice, phrase.strip(), rng)]
    if not ends_in_speech:
        parts.append(np.zeros(seconds(0.5), dtype=np.float32))
    samples = np.concatenate(parts)
    if ends_in_speech:
        # Cut the kept margin too: the recording stops while the digit is still audible.
        samples = samples[: int(np.flatnonzero(np.abs(samples) > 0.02)[-1]) + 1]
    if voice == "en-us+Alex":
        samples = set_peak_db(band_limit(samples), -25.0)
    if snr_db is not None:
        noise = NoiseSource().draw(len(samples), rng)
        samples = add_noise(samples, active_power(samples), snr_db, noise)
    return samples


def write_committed_clips(folder: Path) -> None:
    """Write the clips that the repository carries, and `references.tsv` (file, text)."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["file\ttext"]
    for name, voice, text, snr_db, ends_in_speech in COMMITTED_CLIPS:
        samples = committed_clip(voice, text, snr_db, ends_in_speech)
        path = folder / f"{name}.flac"
        soundfile.write(
            path, quantise(samples), SAMPLE_RATE, subtype="PCM_16", compression_level=1.0
        )
        rows.append(f"{path.name}\t{text.replace('| ', '')}")
    (folder / "references.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def main() -> None:
    """Write the test sets, the committed clips, or both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bank", type=Path, help="heldout.npz of voices.py")
    parser.add_argument("--noise", type=Path, help="folder of noise recordings")
    parser.add_argument("--out", type=Path, help="folder for the test sets")
    parser.add_argument("--clips", type=Path, help="folder for the committed clips")
    arguments = parser.parse_args()
    if arguments.clips:
        write_committed_clips(arguments.clips)
    if arguments.out:
        if not arguments.bank:
            parser.error("--out needs --bank")
        noise = load_noise(arguments.noise, held_out=True)
        write_test_sets(Bank(arguments.bank), noise, arguments.out)


if __name__ == "__main__":
    main()
