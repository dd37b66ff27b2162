"""The model families: one class in one file each, and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from stt.engine import sessions
from stt.engine.dynamic_batcher import DynamicBatcher
from stt.engine.fallback import Reserve
from stt.engine.folder import ModelFamily, ModelFolder, read_folder
from stt.engine.precision import Known, choose
from stt.engine.recognizer import Recognizer
from stt.engine.sessions import Runtime
from stt.errors import ModelError
from stt.models.ctc import Ctc
from stt.models.tdt import DURATIONS
from stt.models.transducer import Transducer
from stt.models.whisper import Whisper
from stt.settings.loading import Settings
from stt.transcript import Choice

FAMILIES: Mapping[str, ModelFamily] = {
    family.name: family
    for family in (
        Transducer("nemo-conformer-tdt", DURATIONS),
        Transducer("nemo-conformer-rnnt", ()),
        Ctc(),
        Whisper(),
    )
}
"""`model_type` in config.json -> what is known of such models."""


def inspect(path: Path) -> ModelFolder:
    """Read a model folder without loading it.

    Raises:
        ModelError: not a folder, no usable config.json or manifest.json, a vocabulary missing, or
            no model at all.
    """
    return read_folder(path, FAMILIES)


def load(
    folder: ModelFolder,
    *,
    precision: str = "auto",
    provider: str = "auto",
    threads: int = 0,
    strict: bool = False,
    auto_int8: bool = False,
    jobs: int | None = None,
) -> tuple[Recognizer, Choice]:
    """Load a model in the best precision on the best provider that really work.

    `strict` and `auto_int8` are `precision.choose`'s; `jobs`: so many utterances a CPU's cores work
    on side by side, 0 for as many as is fastest; None: all on one.

    Raises:
        ModelError: no precision loads, or `strict` forbids what would.
        ProviderError: the provider asked for by name cannot be had.
    """
    import onnxruntime

    folder.check_vocabulary()
    if provider != "cpu":
        sessions.preload(onnxruntime)
    candidates = sessions.to_try(provider, onnxruntime.get_available_providers())
    note = ""
    for candidate in candidates:
        try:
            recognizer, choice = _load_on(
                folder,
                Runtime.shared(candidate, threads, jobs),
                precision=precision,
                strict=strict,
                auto_int8=auto_int8,
            )
        except ModelError as error:
            if candidate == candidates[-1]:
                raise
            note = f"; {candidate} passed over: {error}"
            continue
        if recognizer.provider == candidate:
            return recognizer, Choice(choice.precision, candidate, choice.reason + note)
        if provider != "auto":
            raise sessions.not_running(provider, recognizer.provider)
        note = f"; {candidate} passed over: ONNX Runtime lists it but could not start it"
    raise ModelError(f"{folder.path}: ran on no provider{note}")


def _load_on(
    folder: ModelFolder,
    runtime: Runtime,
    *,
    precision: str,
    strict: bool,
    auto_int8: bool,
) -> tuple[Recognizer, Choice]:
    """Try precisions in the selector's order until one loads."""
    failed: dict[str, str] = {}
    known = Known.of(folder, runtime.provider, failed)
    while True:
        try:
            choice = choose(precision, known, strict=strict, auto_int8=auto_int8)
        except ModelError as error:
            raise ModelError(f"{folder.path}: {error}") from error
        try:
            return folder.family.load(folder, choice.precision, runtime), choice
        except ModelError as error:
            failed[choice.precision] = f"did not load ({error})"


def reserve(
    folder: ModelFolder, choice: Choice, settings: Settings, jobs: int | None
) -> Reserve | None:
    """Return FP32 for where the choice collapses; None where it is the choice."""
    if choice.precision == "fp32":
        return None
    if settings.strict and settings.precision != "auto":
        return Reserve(None, "`strict` is set")
    if folder.problems["fp32"] is not None:
        return Reserve(None, "there is no fp32 to go on with")
    return Reserve(lambda: _loaded(folder, "fp32", choice.provider, settings, jobs))


def spare(folder: ModelFolder, choice: Choice, settings: Settings) -> Reserve | None:
    """Return the choice on the CPU, for what another provider fails on."""
    if choice.provider == "cpu" or settings.strict:
        return None
    load = partial(_loaded, folder, choice.precision, "cpu", settings, None)
    return Reserve(load, name="the CPU")


def _loaded(
    folder: ModelFolder, precision: str, provider: str, settings: Settings, jobs: int | None
) -> Recognizer:
    """Load what takes over, for as many threads as may call it then."""
    found, _ = load(
        folder,
        precision=precision,
        provider=provider,
        threads=settings.threads,
        strict=True,
        jobs=jobs,
    )
    if found.streams > 1:
        return found
    return DynamicBatcher(found, settings.utterances(provider), streams=1)
