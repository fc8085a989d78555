"""A dataset from its upload to its verdict, and the way to its rows."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from django.db.models import ProtectedError

from tenants import dispatch, encryption, storage
from tenants.errors import DatasetInUse, QuotaDatasetRows
from tenants.models import Dataset
from tenants.services import attempts, audit, limits, usage
from tenants.services.tenants import data_key
from tenants.services.uploads import DatasetUpload
from tenants.states import DatasetState


def create_dataset(*, name: str, upload: DatasetUpload) -> Dataset:
    """Make a finished upload a dataset and send it to be validated. A refusal leaves neither a row nor bytes behind.

    Raises QuotaStoredBytes when another one has come in since this one was begun, and both do not fit.
    """
    with upload, transaction.atomic():
        limits.dataset_quotas(tenant=upload.tenant, is_held=True).stored_bytes.check(upload.size_bytes)
        dataset = Dataset.objects.create(
            id=upload.dataset_id,
            tenant=upload.tenant,
            name=name,
            format=upload.format,
            blob_name=upload.blob_name,
            size_bytes=upload.size_bytes,
        )
        usage.add({dataset.tenant_id: usage.Amount(received_bytes=dataset.size_bytes)})
        dispatch.wake_worker(dataset)
        after = audit.fields(dataset, "name", "format", "size_bytes", "state")
        audit.record(action="dataset.created", subject=dataset, after=after)
        upload.keep()
        return dataset


def accept_dataset(*, dataset: Dataset, facts: dict[str, Any]) -> None:
    """The training side found the rows sound; they may be too many for the tenant. Raises LeaseLost."""
    with transaction.atomic():
        dataset.lock_held()
        try:
            limits.dataset_quotas(tenant=dataset.tenant, is_held=True).rows.check(facts["n_rows"])
        except QuotaDatasetRows as refusal:
            refuse_dataset(dataset=dataset, code=refusal.code, reason=str(refusal))
        else:
            _conclude(dataset, "dataset.accepted", DatasetState.READY, facts=facts)


def refuse_dataset(*, dataset: Dataset, code: str, reason: str, row: int | None = None) -> None:
    """The training side found a fault. Raises LeaseLost for a stale attempt."""
    _conclude(
        dataset,
        "dataset.refused",
        DatasetState.REFUSED,
        reason=reason,
        refusal_code=code,
        refusal_row=row,
    )


def _conclude(
    dataset: Dataset, action: str, state: DatasetState, *, reason: str = "", **changes: Any
) -> None:
    shown = ("state", "refusal_code", "refusal_row")  # the reason may quote a row
    with transaction.atomic():
        dataset.lock_held()
        before = audit.fields(dataset, *shown)
        attempts.end(dataset, state, reason=reason, **changes)
        audit.record(action=action, subject=dataset, before=before, after=audit.fields(dataset, *shown))


def delete_dataset(*, dataset: Dataset) -> None:
    """Remove the row, and the bytes once that is committed.

    Raises DatasetInUse when a federation has used it, and NotFound where it was deleted meanwhile.
    """
    try:
        with transaction.atomic():
            # With the key: an enrolment that names the row and is not committed yet is waited for, and then seen.
            held = Dataset.pick(Dataset.objects.select_for_update(), dataset.public_id)
            before = audit.fields(held, "name", "format", "size_bytes", "state")
            audit.record(action="dataset.deleted", subject=held, before=before)
            held.delete()
    except ProtectedError:
        raise DatasetInUse(dataset_id=dataset.public_id) from None
    transaction.on_commit(lambda: storage.delete(dataset.blob_name), robust=True)


@contextmanager
def open_rows(dataset: Dataset) -> Iterator[io.BufferedReader]:
    """The dataset in the clear, as a seekable stream that decrypts chunk by chunk: for training workers alone."""
    with storage.open_blob(dataset.blob_name) as ciphertext:
        reader = encryption.DecryptingReader(ciphertext, data_key(dataset.tenant), dataset.encryption_context)
        yield io.BufferedReader(reader)
