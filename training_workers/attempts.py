"""One attempt at a piece of work: claimed under a lease, kept alive by its own progress, ended exactly once."""

import errno
import io
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, BinaryIO, Generic, TypeVar
from uuid import UUID

import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError

from federation.services import reconciling, trainer_logs
from tenants import scoping
from tenants.errors import LeaseLost, PreludeError
from tenants.leases import Leased
from tenants.models import Dataset, TenantOwned
from tenants.services import datasets
from training_workers.errors import TrainerFailed, TrainerLost
from training_workers.resident import StopJob

log = structlog.get_logger(__name__)
Row = TypeVar("Row", bound=Leased)
_PROGRESS_EVERY_SECONDS = 0.5  # a row written at each of a fast model's steps would cost more than the step


class Attempt(Generic[Row]):
    """A claimed row and the scopes in which it is read and written: its tenant's, or the platform's."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self._tenant_id: UUID | None = row.tenant_id if isinstance(row, TenantOwned) else None
        self._written_at = time.monotonic()

    def scope(self) -> AbstractContextManager[None]:
        """A transaction."""
        return scoping.platform() if self._tenant_id is None else scoping.tenant(self._tenant_id)

    def single(self) -> AbstractContextManager[None]:
        """For one statement: an end that writes nothing else takes one message to the database, not four."""
        return scoping.single(self._tenant_id)

    def beat(self, **changes: object) -> None:
        """Extend the lease and write progress. Raises StopJob when the work is another's or has ended.

        A database that is away is no reason to throw work away: if it is back before another has claimed the row, the
        next beat finds it as it was, and otherwise the next beat stops.
        """
        self._written_at = time.monotonic()
        try:
            with self.scope():
                self.row.keep(**changes)
        except LeaseLost as lost:
            raise StopJob(str(lost)) from lost
        except (OperationalError, InterfaceError) as outage:
            log.warning(
                "beat_missed", subject=self.row.public_id, attempt=self.row.attempt, reason=str(outage)
            )

    def is_due(self, seconds: float = _PROGRESS_EVERY_SECONDS) -> bool:
        """Whether the last beat is at least so long ago."""
        return time.monotonic() - self._written_at >= seconds

    @contextmanager
    def open_rows(self, dataset: Dataset) -> Iterator[BinaryIO]:
        """The dataset in the clear; reading it keeps the lease alive, so that a large file is no lost worker."""
        with datasets.open_rows(dataset) as rows:
            yield io.BufferedReader(_BeatingFile(rows, self))


class _BeatingFile(io.RawIOBase):
    def __init__(self, file: BinaryIO, attempt: "Attempt[Any]") -> None:
        self._file = file
        self._attempt = attempt

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        if self._attempt.is_due(settings.BEAT_SECONDS):
            self._attempt.beat()
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def perform(attempt: Attempt[Row], work: Callable[[Attempt[Row]], None]) -> None:
    """Do the work of a claimed row; whatever happens, the row is ended or handed back, unless this process dies."""
    row = attempt.row
    try:
        try:
            work(attempt)
        except (StopJob, LeaseLost):
            raise
        except Exception as error:  # noqa: BLE001 - the row must not hang until its lease runs out
            with attempt.scope():
                _end(row, error)
            if _is_full(error):
                # Another worker may have room: this one would else take all that waits, and lose it.
                time.sleep(settings.BEAT_SECONDS)
    except (StopJob, LeaseLost) as stop:
        log.info("attempt_stopped", subject=row.public_id, attempt=row.attempt, reason=str(stop))
        with attempt.scope():
            row.acknowledge_stop()


def _end(row: Leased, error: Exception) -> None:
    """Give the work up for a fault that another attempt would meet again; hand it back for any other."""
    match error:
        case TrainerLost():
            trainer_logs.keep_tail(row, lines=error.log_tail)
            reconciling.hand_back(row, code=error.code, reason=str(error))
        case TrainerFailed(is_unexpected=True):
            reconciling.hand_back(row, code=error.refusal_code, reason=str(error))
        case TrainerFailed():
            reconciling.give_up(row, code=error.refusal_code, reason=str(error))
        case PreludeError():
            reconciling.give_up(row, code=error.code, reason=str(error))
        case _ if _is_full(error):
            log.error("disk_full", subject=row.public_id, attempt=row.attempt, **_place(error))
            reconciling.hand_back(
                row, code="disk_full", reason="The storage, or a disk of the worker, is full."
            )
        case _:
            log.error("attempt_broke", subject=row.public_id, attempt=row.attempt, **_place(error))
            reconciling.hand_back(row, code="worker_failed", reason=f"The worker met {type(error).__name__}.")


def _place(error: Exception) -> dict[str, Any]:
    """What it is and where it was raised; its text, and those of what led to it, may quote a tenant's row."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


def _is_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
