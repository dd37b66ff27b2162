"""Install a catalogued model: download, prove every byte, then give it its name."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

from stt.errors import ModelError, UsageError
from stt.models.catalog import MODELS, STARTER, PinnedFile, PinnedModel
from stt.models.folder import MANIFEST
from stt.models.locate import ReportProgress

_CHUNK = 1 << 22


def install(name: str, models_dir: Path, report: ReportProgress) -> Path:
    """Install a model by its catalogue name and return its folder; does nothing if it is there.

    An interrupted download goes on where it stopped when run again.

    Raises:
        UsageError: no such name.
        ModelError: the hub cannot be reached, or what it sent is not what was pinned.
    """
    if name == STARTER:
        from stt.models.starter import ensure_starter

        return ensure_starter(models_dir, progress=report)
    if name not in MODELS:
        raise UsageError(f"no model named {name}; choose {', '.join([*MODELS, STARTER])}")
    model, target = MODELS[name], models_dir / name
    if (target / MANIFEST).exists():
        return target
    if target.exists():
        raise ModelError(f"{target}: exists without a {MANIFEST}; move it away and run again")
    staging = models_dir / f".{name}.partial"
    staging.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(model.files):
        report(f"downloading {model.repo_id}", number, len(model.files))
        _fetch(model, file, staging)
    hashes = {file.name: _proven(staging, file, report) for file in model.files}
    _write_manifest(model, staging, hashes)
    staging.replace(target)
    return target


def _fetch(model: PinnedModel, file: PinnedFile, staging: Path) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries are not our output
    try:
        hf_hub_download(model.repo_id, file.name, revision=model.revision, local_dir=staging)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"{file.name} of {model.repo_id} could not be downloaded ({_root_cause(error)}); check "
            "network, proxy and HF_ENDPOINT and run `stt setup` again: it goes on where it "
            f"stopped; or copy the model's files into {staging.parent / model.name} yourself; "
            "`stt transcribe` works with the starter meanwhile"
        ) from error


def _root_cause(error: BaseException) -> str:
    """What failed first, on one line: the hub library reports what it tried after it."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return " ".join(str(error).split())[:200] or type(error).__name__


def _proven(staging: Path, file: PinnedFile, report: ReportProgress) -> str:
    """Check one downloaded file against its pin and return its SHA-256."""
    path = staging / file.name
    size = path.stat().st_size
    if size != file.size:
        path.unlink()
        raise ModelError(
            f"{file.name}: {size:,} bytes arrived where {file.size:,} were pinned; it was removed, "
            "run `stt setup` again"
        )
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            report(f"checking {file.name}", done, size)
    if file.sha256 is not None and digest.hexdigest() != file.sha256:
        path.unlink()
        raise ModelError(
            f"{file.name}: SHA-256 {digest.hexdigest()} arrived where {file.sha256} was pinned; it "
            "was removed, run `stt setup` again"
        )
    return digest.hexdigest()


def _write_manifest(model: PinnedModel, staging: Path, hashes: dict[str, str]) -> None:
    manifest = {
        "source": model.repo_id,
        "revision": model.revision,
        "licence": model.licence,
        "files": {
            file.name: {"size": file.size, "sha256": hashes[file.name]} for file in model.files
        },
    }
    (staging / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
