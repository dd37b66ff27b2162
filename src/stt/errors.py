"""What can go wrong, as one small tree; every message says what to do next.

SttError
├── UsageError          wrong flags or arguments                        exit code 2
│   ├── SettingsError   stt_config.json, STT_* or a flag is not valid   exit code 2
│   └── ProviderError   a provider asked for by name cannot be had      exit code 2
├── AudioError          a recording cannot be read                      exit code 1
├── ModelError          a model folder is missing, damaged or refused   exit code 1
│   └── NonFiniteOutput a model gave NaN or infinity; met within only   exit code 1
└── OutputError         a result cannot be written                      exit code 1
"""

from __future__ import annotations

__all__ = [
    "AudioError",
    "ModelError",
    "OutputError",
    "ProviderError",
    "SettingsError",
    "SttError",
    "UsageError",
]


class SttError(Exception):
    """Base of all errors `stt` raises on purpose. The text is one line and names the cure."""

    exit_code = 1


class UsageError(SttError):
    """The command or call is wrong; nothing was done."""

    exit_code = 2


class SettingsError(UsageError):
    """A setting is unknown, of the wrong type or impossible; the text names its source and key."""


class ProviderError(UsageError):
    """An execution provider asked for by name cannot run here."""


class AudioError(SttError):
    """A recording is missing, empty, truncated, corrupt or holds no sound."""


class ModelError(SttError):
    """A model folder is missing, incomplete, damaged, or no precision of it loads."""


class NonFiniteOutput(ModelError):  # noqa: N818 - says what was met
    """A model's output holds NaN or infinity, as when FP16 overflows: nothing can be read from it.

    Not in `__all__`: recordings go on in FP32, or fail with a ModelError that says where.
    """

    def __init__(self, what: str, index: int = 0) -> None:
        """`what` and where, e.g. NaN in the encoder output; `index`: which of the batch."""
        super().__init__(f"{what}: this model gives nothing usable; run `stt setup` for it again")
        self.what = what
        self.index = index
        """Place of the utterance in its batch; the first where it is not known."""


class OutputError(SttError):
    """A transcript could not be written; nothing half-written is left under its name."""
