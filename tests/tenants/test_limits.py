"""Quotas of datasets: refused as early as can be told, and for certain when two come at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from tenants import scoping
from tenants.errors import PreludeError, QuotaDatasetRows, QuotaStoredBytes
from tenants.models import Dataset, Tenant, TenantLimits
from tenants.services import datasets
from tenants.services.limits import dataset_quotas
from tenants.services.tenants import create_tenant
from tenants.services.uploads import DatasetUpload
from tests.claims import claim
from tests.factories import DatasetFactory
from tests.racing import at_once

ROWS = b"text,label\nfine,good\n"


def limit(tenant: Tenant, **limits: int) -> None:
    with scoping.platform():
        assert TenantLimits.objects.filter(tenant=tenant).update(**limits) == 1


def uploaded(tenant: Tenant, data: bytes = ROWS) -> DatasetUpload:
    with scoping.tenant(tenant.id):
        quotas = dataset_quotas(tenant=tenant)
    upload = DatasetUpload(tenant=tenant, file_name="rows.csv", limit_bytes=10**9, quotas=quotas)
    upload.write(data)
    upload.finish()
    return upload


def validating(tenant: Tenant) -> Dataset:
    row = DatasetFactory.create(tenant=tenant, state="validating", facts={}, size_bytes=1)
    with scoping.tenant(tenant.id):
        return claim(Dataset, row.pk, owner="worker")


def accept(dataset: Dataset, n_rows: int) -> Dataset:
    with scoping.tenant(dataset.tenant_id):
        datasets.accept_dataset(dataset=dataset, facts={"n_rows": n_rows})
        return Dataset.objects.get(pk=dataset.pk)


def files(settings: Settings) -> list[Path]:
    root = Path(settings.STORAGES["blobs"]["OPTIONS"]["location"])
    return sorted(path for path in root.rglob("*") if path.is_file())


@pytest.mark.django_db
def test_a_tenant_is_made_with_limits() -> None:
    with scoping.platform():
        tenant = create_tenant(name="Initech", slug="initech")
        limits = TenantLimits.objects.get(tenant=tenant)
    assert limits.requests_per_minute == 1_200
    assert None not in (limits.rounds_in_flight, limits.dataset_rows, limits.stored_bytes)


@pytest.mark.django_db
def test_an_upload_ends_at_the_byte_that_is_too_many(acme: Tenant, settings: Settings) -> None:
    DatasetFactory.create(tenant=acme, size_bytes=100)
    limit(acme, stored_bytes=100 + len(ROWS))
    before = files(settings)
    with scoping.tenant(acme.id):
        quotas = dataset_quotas(tenant=acme)
    upload = DatasetUpload(tenant=acme, file_name="rows.csv", limit_bytes=10**9, quotas=quotas)
    upload.write(ROWS)
    with pytest.raises(QuotaStoredBytes) as refused:
        upload.write(b"x")
    assert (refused.value.limit, refused.value.used) == (100 + len(ROWS), 100)
    upload.abort()
    assert files(settings) == before


@pytest.mark.django_db
def test_without_a_row_left_no_upload_begins(acme: Tenant, globex: Tenant) -> None:
    DatasetFactory.create(tenant=acme, facts={"n_rows": 100})
    DatasetFactory.create(tenant=acme, state="refused", facts={"n_rows": 5})
    for tenant in (acme, globex):
        limit(tenant, dataset_rows=100)
    with pytest.raises(QuotaDatasetRows) as refused:
        uploaded(acme)
    assert refused.value.used == 100
    uploaded(globex)


@pytest.mark.django_db
def test_a_dataset_with_too_many_rows_is_refused_by_its_validation(acme: Tenant) -> None:
    DatasetFactory.create(tenant=acme, facts={"n_rows": 60})
    limit(acme, dataset_rows=100)
    refused = accept(validating(acme), 41)
    assert (refused.state, refused.refusal_code) == ("refused", "quota_dataset_rows")
    assert "100 rows" in refused.state_reason
    assert accept(validating(acme), 40).state == "ready"


@pytest.mark.django_db
def test_deleting_gives_bytes_and_rows_back(acme: Tenant) -> None:
    full = DatasetFactory.create(tenant=acme, size_bytes=len(ROWS), facts={"n_rows": 100})
    limit(acme, dataset_rows=100, stored_bytes=len(ROWS))
    with pytest.raises(QuotaDatasetRows):
        uploaded(acme)
    with scoping.tenant(acme.id):
        datasets.delete_dataset(dataset=full)
        datasets.create_dataset(name="rows", upload=uploaded(acme))


@pytest.mark.django_db(transaction=True)
def test_of_uploads_at_once_only_as_many_come_in_as_fit(acme: Tenant, settings: Settings) -> None:
    limit(acme, stored_bytes=2 * len(ROWS))
    uploads: Iterator[DatasetUpload] = iter([uploaded(acme) for _ in range(5)])
    before = len(files(settings))

    def create() -> str:
        try:
            with scoping.tenant(acme.id):
                datasets.create_dataset(name="rows", upload=next(uploads))
        except PreludeError as refusal:
            return refusal.code
        return "made"

    assert sorted(at_once(5, create)) == ["made"] * 2 + ["quota_stored_bytes"] * 3
    assert len(files(settings)) == before - 3


@pytest.mark.django_db(transaction=True)
def test_of_validations_that_end_at_once_only_as_many_pass_as_fit(acme: Tenant) -> None:
    limit(acme, dataset_rows=100)
    rows = iter([validating(acme) for _ in range(4)])
    assert sorted(at_once(4, lambda: accept(next(rows), 50).state)) == [
        "ready",
        "ready",
        "refused",
        "refused",
    ]
