"""Error feedback's residuals: of the tenant's, encrypted with its key, and never more than two of an enrolment.

The one that counts is that of the local run that was accepted last: what a rejected, failed or canceled run left out
never reached an average.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from django.db import models, transaction

from federation.models import Enrolment, LocalRun, Residual
from federation.states import EnrolmentState, LocalRunState
from tenants import encryption, storage
from tenants.services.tenants import data_key


@contextmanager
def kept(*, local_run: LocalRun, residual: bytes) -> Iterator[None]:
    """Keep a run's residual with the submission that the block makes: its bytes first, its row in that transaction.

    A block that fails leaves nothing behind.
    """
    blob_name = _store(local_run, residual)
    try:
        # Before the block ends the run and charges the tenant: whoever leaves takes its locks in this order too.
        local_run.enrolment.lock()
        yield
        _record(local_run, blob_name)
    except BaseException:
        storage.delete(blob_name)
        raise


def _store(local_run: LocalRun, residual: bytes) -> str:
    context = Residual.encryption_context(local_run)
    with tempfile.TemporaryFile(prefix="prelude-residual-") as ciphertext:
        with encryption.EncryptingWriter(ciphertext, data_key(local_run.tenant), context) as writer:
            writer.write(residual)
        ciphertext.flush()
        return storage.put_file(ciphertext)


def _record(local_run: LocalRun, blob_name: str) -> None:
    """Of older residuals only the one that counts stays; of a tenant that has left in the meantime, none.

    The enrolment is locked.
    """
    enrolment = local_run.enrolment
    Residual.objects.create(tenant=local_run.tenant, local_run=local_run, blob_name=blob_name)
    wanted = {local_run.pk, *_last_accepted(local_run).values_list("pk", flat=True)[:1]}
    residuals = _of(enrolment)
    _delete(residuals if enrolment.state == EnrolmentState.LEFT else residuals.exclude(local_run__in=wanted))


def forget(*, enrolment: Enrolment) -> None:
    """Delete the residuals of a tenant that leaves."""
    _delete(_of(enrolment))


def read_last(*, local_run: LocalRun) -> bytes | None:
    """What the tenant's last accepted upload left out, in the clear: for training workers alone. None: nothing yet."""
    accepted = _last_accepted(local_run).first()
    residual = Residual.objects.filter(local_run=accepted).first() if accepted else None
    if accepted is None or residual is None:
        return None
    context = Residual.encryption_context(accepted)
    with storage.open_blob(residual.blob_name) as ciphertext:
        return encryption.DecryptingReader(ciphertext, data_key(local_run.tenant), context).read()


def _last_accepted(local_run: LocalRun) -> models.QuerySet[LocalRun]:
    accepted = LocalRun.objects.filter(enrolment=local_run.enrolment_id, state=LocalRunState.ACCEPTED)
    return accepted.order_by("-federated_round__number")


def _of(enrolment: Enrolment) -> models.QuerySet[Residual]:
    return Residual.objects.filter(local_run__enrolment=enrolment)


def _delete(residuals: models.QuerySet[Residual]) -> None:
    """The rows, and their bytes once that is committed."""
    for residual in residuals:
        residual.delete()
        transaction.on_commit(partial(storage.delete, residual.blob_name), robust=True)
