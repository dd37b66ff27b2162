"""Short recordings with their texts that come with the application, to prove models on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stt.errors import ModelError

REFERENCES = "references.tsv"
_BUNDLED = Path(__file__).parent / "speech"


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording and what is said in it."""

    name: str
    samples: npt.NDArray[np.float32]
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


def of_length(clips: tuple[Clip, ...], seconds: float) -> npt.NDArray[np.float32]:
    """Speech of exactly this many seconds: the clips one after the other, again and again."""
    speech = np.concatenate([clip.samples for clip in clips])
    wanted = round(seconds * 16_000)
    return np.resize(speech, wanted)
