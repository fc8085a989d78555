"""What came out of the rounds, read back through the API: versions with their scores, bytes and seconds."""

import hashlib
import io
import time
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deploy.demo.client import Api, Body
from deploy.demo.errors import DownloadDiffers, WaitedTooLong
from deploy.demo.setting_up import Arrangement

SCORED_SECONDS: Final = 300.0
TENSOR_FILE: Final = "adapter_model.safetensors"
_POLL_SECONDS: Final = 0.5


@dataclass(frozen=True)
class Score:
    """A share of right answers on one tenant's held-out rows."""

    accuracy: float
    n_rows: int


@dataclass(frozen=True)
class VersionResult:
    """One version: what the API says of it, where it was downloaded to, and its scores by tenant."""

    number: int
    id: str
    sha256: str
    size_bytes: int
    is_published: bool
    round_id: str | None
    file: Path
    archive: Path
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class RoundResult:
    """One round that is over: its outcome, its payload bytes and its seconds by phase."""

    number: int
    state: str
    reason: str
    parent: int
    candidate: int | None
    up_bytes: int
    down_bytes: int
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """All that the report is made of."""

    federation: Body
    base_model: Body
    base_scores: Mapping[str, Score]
    versions: list[VersionResult]
    rounds: list[RoundResult]


def collect(arrangement: Arrangement, directory: Path) -> Results:
    """Wait for all scores, download all versions into `directory`, and return the results.

    Raises:
        WaitedTooLong: a score did not come.
        DownloadDiffers: a downloaded version is not the one that the API names.
    """
    federation_id = arrangement.federation["id"]
    operator = arrangement.operator
    slugs = {tenant.id: tenant.slug for tenant in arrangement.tenants}
    scores = _wait_for_scores(operator, federation_id, slugs)
    versions = [
        _download(operator, version, directory, scores.get(version["id"], {}))
        for version in operator.list(f"/federations/{federation_id}/prefix-versions")
    ]
    versions.sort(key=lambda version: version.number)
    numbers = {version.id: version.number for version in versions}
    rounds = [
        _round_result(found, numbers) for found in operator.list(f"/federations/{federation_id}/rounds")
    ]
    return Results(
        federation=arrangement.federation,
        base_model=arrangement.base_model,
        base_scores=scores.get(None, {}),
        versions=versions,
        rounds=sorted(rounds, key=lambda found: found.number),
    )


def completed_scores(
    evaluations: Iterable[Body], slugs: Mapping[str, str]
) -> dict[str | None, dict[str, Score]]:
    """Group the tenants' completed evaluations by version (None: the base model alone) and slug."""
    scores: dict[str | None, dict[str, Score]] = {}
    for evaluation in evaluations:
        if evaluation["state"] == "completed" and evaluation["tenant"] in slugs:
            score = Score(accuracy=evaluation["accuracy"], n_rows=evaluation["n_rows"])
            scores.setdefault(evaluation["version"], {})[slugs[evaluation["tenant"]]] = score
    return scores


def unpack(archive: bytes, directory: Path) -> Path:
    """Write an archive's files into a directory and return the tensor's file."""
    directory.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(archive)) as content:
        for member in content.infolist():
            # The last part of the name only: no archive writes outside the directory.
            (directory / Path(member.filename).name).write_bytes(content.read(member))
    return directory / TENSOR_FILE


def _wait_for_scores(
    operator: Api, federation_id: str, slugs: Mapping[str, str]
) -> dict[str | None, dict[str, Score]]:
    started = time.monotonic()
    while True:
        evaluations = list(operator.list("/evaluations", federation=federation_id))
        if not any(evaluation["state"] in ("queued", "running") for evaluation in evaluations):
            return completed_scores(evaluations, slugs)
        waited = time.monotonic() - started
        if waited > SCORED_SECONDS:
            raise WaitedTooLong(path="/evaluations", state="unfinished", waited_seconds=waited)
        time.sleep(_POLL_SECONDS)


def _download(operator: Api, version: Body, directory: Path, scores: Mapping[str, Score]) -> VersionResult:
    directory.mkdir(parents=True, exist_ok=True)
    archive = directory / f"{version['number']:03d}.zip"
    archive.write_bytes(operator.download(f"/prefix-versions/{version['id']}/archive"))
    file = unpack(archive.read_bytes(), archive.with_suffix(""))
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != version["sha256"]:
        raise DownloadDiffers(number=version["number"], found_sha256=found, expected_sha256=version["sha256"])
    return VersionResult(
        number=version["number"],
        id=version["id"],
        sha256=version["sha256"],
        size_bytes=version["size_bytes"],
        is_published=version["is_published"],
        round_id=version["round"],
        file=file,
        archive=archive,
        scores=scores,
    )


def _round_result(found: Body, numbers: Mapping[str, int]) -> RoundResult:
    return RoundResult(
        number=found["number"],
        state=found["state"],
        reason=found["reason"],
        parent=numbers[found["parent_version"]],
        candidate=numbers.get(found["candidate_version"]),
        up_bytes=found["up_bytes"],
        down_bytes=found["down_bytes"],
        seconds=found["phase_seconds"],
    )
