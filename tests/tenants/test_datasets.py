"""Datasets from the door to storage: encrypted on the way in, refused early, nothing left behind."""

import tempfile
import threading
from pathlib import Path

import pytest
from django.db import DataError
from pytest_django import Settings

from tenants import scoping
from tenants.encryption import DecryptionFailed
from tenants.errors import (
    DatasetEmpty,
    DatasetFormatUnknown,
    DatasetInUse,
    DatasetNotText,
    DatasetTooLarge,
    LeaseLost,
    NotFound,
)
from tenants.models import AuditEntry, Dataset, Tenant
from tenants.services import datasets
from tenants.services.limits import dataset_quotas
from tenants.services.uploads import DatasetUpload
from tenants.states import DatasetState
from tests.claims import claim
from tests.factories import DatasetFactory, EnrolmentFactory, FederationFactory
from tests.racing import at_once, beside, until_it_waits

pytestmark = pytest.mark.django_db
ROWS = b'{"text": "secret sentence of Acme", "label": "positive"}\n' * 5_000


def stored_files(settings: Settings) -> list[Path]:
    root = Path(settings.STORAGES["blobs"]["OPTIONS"]["location"])
    return sorted(path for path in root.rglob("*") if path.is_file())


def begun(tenant: Tenant, name: str, limit_bytes: int) -> DatasetUpload:
    with scoping.tenant(tenant.id):
        quotas = dataset_quotas(tenant=tenant)
    return DatasetUpload(tenant=tenant, file_name=name, limit_bytes=limit_bytes, quotas=quotas)


def upload_of(
    tenant: Tenant, data: bytes, name: str = "rows.jsonl", limit_bytes: int = 10**9
) -> DatasetUpload:
    with begun(tenant, name, limit_bytes) as upload:
        for start in range(0, len(data), 50_000):
            upload.write(data[start : start + 50_000])
        upload.finish()
    return upload


def create(tenant: Tenant, data: bytes = ROWS) -> Dataset:
    with scoping.tenant(tenant.id):
        return datasets.create_dataset(name="rows", upload=upload_of(tenant, data))


def test_an_upload_that_is_cut_off_leaves_no_file(
    acme: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    upload = begun(acme, "rows.jsonl", 10**9)
    upload.write(ROWS)
    assert list(tmp_path.iterdir()) == [], "a killed process could not remove it"
    upload.abort()


def test_what_is_stored_is_encrypted_and_opens_with_the_tenants_key_alone(
    acme: Tenant, globex: Tenant, settings: Settings
) -> None:
    before = set(stored_files(settings))
    dataset = create(acme)
    [new] = set(stored_files(settings)) - before
    assert b"secret sentence" not in new.read_bytes()
    with scoping.tenant(acme.id), datasets.open_rows(Dataset.objects.get()) as rows:
        assert rows.read() == ROWS
    dataset.tenant = globex
    with pytest.raises(DecryptionFailed), datasets.open_rows(dataset) as rows:
        rows.read()


def test_a_blob_that_is_given_to_another_dataset_does_not_open(acme: Tenant) -> None:
    first, second = create(acme), create(acme)
    second.blob_name = first.blob_name
    with pytest.raises(DecryptionFailed), datasets.open_rows(second) as rows:
        rows.read()


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("rows.xlsx", b"PK", DatasetFormatUnknown),
        ("rows", b"{}", DatasetFormatUnknown),
        ("rows.jsonl", b"", DatasetEmpty),
        ("rows.jsonl", b"\xff\xfe{}", DatasetNotText),
        ("rows.jsonl", b"text,label\n", DatasetNotText),
        ("rows.csv", b"text,label\x00\n", DatasetNotText),
        ("rows.parquet", b"text,label\n", DatasetNotText),
        ("rows.csv", b"a" * 101, DatasetTooLarge),
    ],
)
def test_what_can_be_told_at_the_door_is_refused_there(
    acme: Tenant, settings: Settings, name: str, data: bytes, error: type[Exception]
) -> None:
    before = stored_files(settings)
    with pytest.raises(error):
        upload_of(acme, data, name=name, limit_bytes=100)
    assert stored_files(settings) == before


def test_a_character_that_is_cut_between_two_chunks_is_no_fault(acme: Tenant) -> None:
    upload = begun(acme, "rows.csv", limit_bytes=100)
    upload.write("text,label\nä".encode()[:-1])
    upload.write("ä".encode()[1:] + b",x\n")
    upload.finish()
    assert upload.size_bytes == len("text,label\nä,x\n".encode())


def test_a_row_that_cannot_be_written_leaves_no_bytes(acme: Tenant, settings: Settings) -> None:
    before = stored_files(settings)
    upload = upload_of(acme, ROWS)
    with pytest.raises(DataError), scoping.tenant(acme.id):
        datasets.create_dataset(name="r" * 201, upload=upload)
    assert stored_files(settings) == before


def test_a_stale_attempt_cannot_conclude(acme: Tenant) -> None:
    dataset = create(acme)
    with scoping.tenant(acme.id):
        first = claim(Dataset, dataset.pk, owner="one")
        first.free_lease()
        second = claim(Dataset, dataset.pk, owner="two")
        with pytest.raises(LeaseLost):
            datasets.accept_dataset(dataset=first, facts={"n_rows": 1})
        datasets.refuse_dataset(dataset=second, code="value_empty", reason="Row 3 is empty.", row=3)
        dataset = Dataset.objects.get()
    assert (dataset.state, dataset.refusal_code, dataset.refusal_row) == (
        DatasetState.REFUSED,
        "value_empty",
        3,
    )
    assert (dataset.facts, dataset.attempt) == ({}, 2)


def test_deleting_removes_row_and_bytes_unless_a_federation_uses_it(
    acme: Tenant, settings: Settings, django_capture_on_commit_callbacks: object
) -> None:
    before = stored_files(settings)
    dataset = create(acme)
    with django_capture_on_commit_callbacks(execute=True), scoping.tenant(acme.id):  # type: ignore[operator]
        datasets.delete_dataset(dataset=dataset)
    assert stored_files(settings) == before
    enrolled = EnrolmentFactory.create(tenant=acme).dataset
    assert enrolled is not None
    with scoping.tenant(acme.id), pytest.raises(DatasetInUse):
        datasets.delete_dataset(dataset=enrolled)


@pytest.mark.django_db(transaction=True)
def test_of_several_who_delete_a_dataset_at_once_one_does(acme: Tenant) -> None:
    dataset = DatasetFactory.create(tenant=acme)

    def delete() -> str:
        try:
            with scoping.tenant(acme.id):
                datasets.delete_dataset(dataset=Dataset.objects.get(pk=dataset.pk))
        except (NotFound, Dataset.DoesNotExist):
            return "not_found"
        return "deleted"

    assert sorted(at_once(4, delete)) == ["deleted", *["not_found"] * 3]
    with scoping.platform():
        assert AuditEntry.objects.filter(action="dataset.deleted").count() == 1


@pytest.mark.django_db(transaction=True)
def test_who_deletes_a_dataset_waits_for_who_is_enrolling_with_it(acme: Tenant) -> None:
    dataset, federation = DatasetFactory.create(tenant=acme), FederationFactory.create()
    is_written, may_commit = threading.Event(), threading.Event()

    def enrol() -> None:
        with scoping.platform():
            EnrolmentFactory.create(tenant=acme, federation=federation, dataset=dataset)
            is_written.set()
            assert may_commit.wait(timeout=20)

    def delete() -> None:
        with scoping.tenant(acme.id):
            datasets.delete_dataset(dataset=dataset)

    enrolling = beside(enrol)
    assert is_written.wait(timeout=20)
    deletion = beside(delete)
    until_it_waits()
    may_commit.set()
    enrolling.result()
    with pytest.raises(DatasetInUse):
        deletion.result()
