"""The console's page of a tenant's limits and usage, and the form that sets limits."""

from decimal import Decimal

import pytest
from django.test import Client

from tenants import scoping
from tenants.admin.rows import change_url
from tenants.models import Tenant, TenantLimits
from tests.factories import DatasetFactory, UsageDayFactory
from tests.federation.console import add_url, text_of
from tests.tenants.test_limits import limit

pytestmark = pytest.mark.django_db


def limits_of(tenant: Tenant) -> TenantLimits:
    with scoping.platform():
        return TenantLimits.objects.get(tenant=tenant)


def test_the_page_shows_limits_used_and_days(operator: Client, acme: Tenant, globex: Tenant) -> None:
    DatasetFactory.create(tenant=acme, size_bytes=50_000)
    UsageDayFactory.create(tenant=acme, n_requests=1_234, device_seconds=Decimal("72.4"))
    UsageDayFactory.create(tenant=globex, n_requests=98_765)
    limit(acme, stored_bytes=100_000)
    page = text_of(operator.get(change_url(limits_of(acme))))
    for told in ("Acme", "50.0 kB", "100.0 kB", "width: 50%", "1,234", "1 min 12 s", "no limit"):
        assert told in page, told
    assert "98,765" not in page
    assert change_url(limits_of(acme)) in text_of(operator.get(change_url(acme)))


def test_an_operator_sets_limits_by_a_form_that_knows_them(operator: Client, acme: Tenant) -> None:
    limit(acme, stored_bytes=777)
    assert "stored_bytes=777" in text_of(operator.get(change_url(limits_of(acme))))
    sent = {"tenant": str(acme.pk), "requests_per_minute": "60", "dataset_rows": "0", "weight": "3"}
    answer = operator.post(add_url(TenantLimits), sent)
    assert (answer.status_code, answer["Location"]) == (302, change_url(limits_of(acme)))
    limits = limits_of(acme)
    assert (limits.requests_per_minute, limits.dataset_rows, limits.stored_bytes) == (60, 0, None)
    assert (limits.weight, limits.concurrent_runs) == (3, None)
    assert "weight 3 among" in text_of(operator.get(change_url(limits)))


def test_a_viewer_sees_the_page_without_the_form(viewer: Client, acme: Tenant) -> None:
    assert "Set limits" not in text_of(viewer.get(change_url(limits_of(acme))))
    assert viewer.post(add_url(TenantLimits), {"tenant": str(acme.pk)}).status_code == 403
