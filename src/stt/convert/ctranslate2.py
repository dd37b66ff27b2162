"""Read the weights of a CTranslate2 `model.bin`, and the size of a Whisper, without CTranslate2.

The format, little-endian throughout, as CTranslate2's Python converter writes it
(`ctranslate2/specs/model_spec.py`, binary version 6):

    u32 binary version
    text specification name          e.g. WhisperSpec
    u32 specification revision
    u32 number of variables, then for each
        text name
        u8  rank, then u32 per dimension
        u8  type: 0 float32, 1 int8, 2 int16, 3 int32, 4 float16, 5 bfloat16
        u32 bytes, then the values in C order
    u32 number of aliases, then for each: text alias, text name of the variable it stands for

    text = u16 bytes, UTF-8, closed by a NUL that the count includes
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stt.errors import ModelError

_BINARY_VERSION = 6
_TYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")
_MAX_RANK = 8
_GELU = 3  # CTranslate2's number for the exact, erf-based GELU


@dataclass(frozen=True, slots=True)
class Variable:
    """Where one named array lies in the file."""

    shape: tuple[int, ...]
    dtype: str
    """float32, int8, int16, int32, float16 or bfloat16."""
    offset: int
    """Bytes from the start of the file."""

    @property
    def stored(self) -> np.dtype[np.generic]:
        """As numpy knows it; bfloat16 comes as its bits."""
        return np.dtype("uint16" if self.dtype == "bfloat16" else self.dtype).newbyteorder("<")


@dataclass(frozen=True)
class Ctranslate2Model:
    """The contents of a `model.bin`; the values are read from the mapped file when asked for."""

    path: Path
    spec: str
    """Name of the architecture, e.g. WhisperSpec."""
    variables: Mapping[str, Variable]
    aliases: Mapping[str, str]
    data: mmap.mmap

    def __contains__(self, name: str) -> bool:
        return name in self.variables or name in self.aliases

    def variable(self, name: str) -> Variable:
        """The place of `name` or of what it is an alias of; ModelError when there is none."""
        found = self.variables.get(self.aliases.get(name, name))
        if found is None:
            raise ModelError(
                f"{self.path} has no variable {name}: it is not the model expected here"
            )
        return found

    def array(self, name: str) -> npt.NDArray[np.generic]:
        """A read-only view of the values as stored; bfloat16 comes as its uint16 bits."""
        place = self.variable(name)
        values = np.frombuffer(self.data, place.stored, math.prod(place.shape), place.offset)
        return values.reshape(place.shape)

    def float32(self, name: str) -> npt.NDArray[np.float32]:
        """The values as float32, exact for each of the three float types.

        Raises ModelError for integer variables: they need a scale the caller must ask for.
        """
        place = self.variable(name)
        values = self.array(name)
        if place.dtype == "bfloat16":  # bfloat16 is the upper half of a float32
            return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
        if place.dtype not in ("float32", "float16"):
            raise ModelError(
                f"{self.path}: {name} is stored as {place.dtype}; "
                "convert from a float16 or float32 model, quantised ones have lost precision"
            )
        return values.astype(np.float32)

    def scalar(self, name: str) -> int:
        """A variable of rank 0, e.g. a flag or a number of heads."""
        values = self.array(name)
        if values.size != 1:
            raise ModelError(
                f"{self.path}: {name} should be one number, its shape is {values.shape}"
            )
        return int(values.reshape(()).item())


class _Cursor:
    """Takes fields off the mapped file, one after the other."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path = path
        self.data = data
        self.offset = 0

    def number(self, code: str) -> int:
        """One unsigned integer of `struct` code B, H or I."""
        size = struct.calcsize(code)
        start = self.skip(size)
        return int(struct.unpack_from("<" + code, self.data, start)[0])

    def text(self) -> str:
        size = self.number("H")
        start = self.skip(size)
        raw = self.data[start : start + size]
        if not raw.endswith(b"\0"):
            raise self.foreign()
        try:
            return raw[:-1].decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.foreign() from error

    def skip(self, size: int) -> int:
        """The current offset, moving behind `size` bytes that must be there."""
        start = self.offset
        if start + size > len(self.data):
            raise ModelError(
                f"{self.path} is cut short: {len(self.data)} bytes of at least {start + size}; "
                "fetch it again"
            )
        self.offset = start + size
        return start

    def variable(self) -> Variable:
        rank = self.number("B")
        if rank > _MAX_RANK:
            raise self.foreign()
        shape = tuple(self.number("I") for _ in range(rank))
        type_id = self.number("B")
        size = self.number("I")
        if type_id >= len(_TYPES):
            raise self.foreign()
        found = Variable(shape, _TYPES[type_id], self.offset)
        if size != math.prod(shape) * found.stored.itemsize:
            raise self.foreign()
        self.skip(size)
        return found

    def foreign(self) -> ModelError:
        return ModelError(
            f"{self.path} is not a CTranslate2 model or is damaged near byte {self.offset}; "
            "fetch it again"
        )


def read_ctranslate2(path: Path) -> Ctranslate2Model:
    """Read the directory of a `model.bin`; its values stay in the file until asked for.

    Raises ModelError when the file is missing, cut short, of another format or version.
    """
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise ModelError(f"cannot read {path}: {error}; install the model again") from error

    cursor = _Cursor(path, data)
    version = cursor.number("I")
    if version != _BINARY_VERSION:
        raise ModelError(
            f"{path} is not a CTranslate2 model of binary version {_BINARY_VERSION} "
            f"(its first number is {version}); convert it with a current CTranslate2"
        )
    spec = cursor.text()
    cursor.number("I")  # the specification's revision
    variables = {}
    for _ in range(cursor.number("I")):
        name = cursor.text()
        variables[name] = cursor.variable()
    aliases = {}
    for _ in range(cursor.number("I")):
        alias = cursor.text()
        aliases[alias] = cursor.text()
    if cursor.offset != len(data):
        raise cursor.foreign()
    return Ctranslate2Model(path, spec, variables, aliases, data)


@dataclass(frozen=True, slots=True)
class WhisperSize:
    """The dimensions of one Whisper model."""

    mels: int
    width: int
    """Features per position, the same in encoder and decoder."""
    heads: int
    """Attention heads, the same in encoder and decoder."""
    encoder_layers: int
    decoder_layers: int
    source_positions: int
    """Positions of the encoder's output, 1500 for 30 s."""
    target_positions: int
    """Longest sequence of tokens the decoder takes, prompt included."""
    vocabulary: int

    @property
    def head_width(self) -> int:
        """Features per head."""
        return self.width // self.heads


def whisper_size(model: Ctranslate2Model) -> WhisperSize:
    """The dimensions, read off the shapes of the weights.

    Raises ModelError when the file holds another architecture or a variant of Whisper unknown here.
    """
    if model.spec != "WhisperSpec":
        raise ModelError(f"{model.path} holds a {model.spec}, not a Whisper model")
    for flag, wanted in (("activation", _GELU), ("pre_norm", 1), ("scale_embeddings", 0)):
        if model.scalar(f"decoder/{flag}") != wanted:
            raise ModelError(f"{model.path}: decoder/{flag} is not {wanted} as in OpenAI's Whisper")
    mels = model.variable("encoder/conv1/weight").shape[1]
    source_positions, width = model.variable("encoder/position_encodings/encodings").shape
    heads = model.scalar("encoder/num_heads")
    if width % heads or heads != model.scalar("decoder/num_heads"):
        raise ModelError(f"{model.path}: {heads} heads do not fit a width of {width}")
    return WhisperSize(
        mels=mels,
        width=width,
        heads=heads,
        encoder_layers=_layers(model, "encoder"),
        decoder_layers=_layers(model, "decoder"),
        source_positions=source_positions,
        target_positions=model.variable("decoder/position_encodings/encodings").shape[0],
        vocabulary=model.variable("decoder/embeddings/weight").shape[0],
    )


def _layers(model: Ctranslate2Model, part: str) -> int:
    layers = 0
    while f"{part}/layer_{layers}/ffn/layer_norm/beta" in model:
        layers += 1
    return layers
