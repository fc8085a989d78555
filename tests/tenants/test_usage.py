"""Usage rows: amounts are added, by tenant and day, whoever else adds at the same time."""

from datetime import timedelta
from itertools import count

import pytest
from django.db import connection
from django.utils import timezone

from tenants import scoping
from tenants.models import Dataset, Tenant, UsageDay
from tenants.services import datasets, usage
from tenants.services.usage import Amount
from tests.factories import TenantFactory
from tests.racing import at_once
from tests.tenants.test_datasets import upload_of

ONE = Amount(n_requests=1, device_time=timedelta(seconds=0.5), received_bytes=10, sent_bytes=100)


@pytest.mark.django_db
def test_amounts_add_up_within_a_day_of_one_tenant(acme: Tenant, globex: Tenant) -> None:
    with scoping.tenant(acme.id):
        usage.add({acme.pk: ONE})
        usage.add({acme.pk: ONE})
    with scoping.platform():
        [day] = UsageDay.objects.all()
    assert (day.tenant_id, day.day) == (acme.pk, timezone.now().date())
    assert (day.n_requests, float(day.device_seconds), day.received_bytes, day.sent_bytes) == (
        2,
        1.0,
        20,
        200,
    )


@pytest.mark.django_db
def test_no_tenant_adds_to_anothers_day(acme: Tenant, globex: Tenant) -> None:
    with pytest.raises(Exception, match="row-level security"), scoping.tenant(globex.id):
        usage.add({acme.pk: ONE})
    with scoping.platform():
        assert not UsageDay.objects.exists()


@pytest.mark.django_db
def test_what_is_rolled_back_was_not_used(acme: Tenant) -> None:
    with pytest.raises(ZeroDivisionError), scoping.tenant(acme.id):
        usage.add({acme.pk: ONE})
        _ = 1 / 0
    with scoping.platform():
        assert not UsageDay.objects.exists()


@pytest.mark.django_db
def test_an_upload_counts_its_bytes_and_a_deletion_takes_none_back(acme: Tenant) -> None:
    rows = b"text,label\nfine,good\n"
    upload = upload_of(acme, rows, name="rows.csv")
    with scoping.tenant(acme.id):
        made = datasets.create_dataset(name="rows", upload=upload)
        datasets.delete_dataset(dataset=Dataset.objects.get(pk=made.pk))
        assert UsageDay.objects.get().received_bytes == len(rows)


@pytest.mark.django_db(transaction=True)
def test_those_who_add_to_the_same_tenants_lose_nothing_and_never_wait_in_a_circle() -> None:
    tenants = TenantFactory.create_batch(5)
    turns = count()

    def add() -> None:
        for _ in range(20):
            order = tenants if next(turns) % 2 else tenants[::-1]
            with scoping.platform():
                usage.add({tenant.pk: ONE for tenant in order})

    at_once(4, add)
    with scoping.platform():
        days = list(UsageDay.objects.all())
    connection.close()
    assert [(day.n_requests, float(day.device_seconds)) for day in days] == [(80, 40.0)] * 5
