"""Rows that are found by SQL that was written once, whoever asked first."""

from typing import Any

import pytest

from federation.selectors import visibility
from tenants import scoping, selectors
from tenants.errors import NotFound
from tenants.lookups import pick
from tenants.models import Tenant
from tests.factories import DatasetFactory, EnrolmentFactory, FederatedRoundFactory, LocalRunFactory


def test_each_tenant_finds_its_own_row_and_the_platform_all(acme: Tenant, globex: Tenant) -> None:
    rows = {tenant: DatasetFactory.create(tenant=tenant) for tenant in (acme, globex, acme)}
    for own, other in ((acme, globex), (globex, acme)):
        with scoping.tenant(own.id):
            assert pick(selectors.datasets, rows[own].public_id) == rows[own]
            assert pick(selectors.tenants, own.public_id) == own
            for selector, row in ((selectors.datasets, rows[other]), (selectors.tenants, other)):
                with pytest.raises(NotFound):
                    pick(selector, row.public_id)
        with scoping.platform():
            assert pick(selectors.datasets, rows[other].public_id) == rows[other]


def test_what_a_tenant_takes_part_in_decides_as_it_stands(acme: Tenant, globex: Tenant) -> None:
    enrolment = EnrolmentFactory.create(tenant=acme)
    one = FederatedRoundFactory.create(parent_version__federation=enrolment.federation)
    for tenant in (globex, acme):
        with scoping.tenant(tenant.id):
            seen = list(visibility.rounds().filter(pk=one.pk))
            assert seen == ([one] if tenant == acme else [])
            if seen:
                assert pick(visibility.rounds, one.public_id) == one
            else:
                with pytest.raises(NotFound):
                    pick(visibility.rounds, one.public_id)
    with scoping.platform():
        type(enrolment).objects.update(state="left")
    with scoping.tenant(acme.id), pytest.raises(NotFound):
        pick(visibility.rounds, one.public_id)


def test_a_row_is_whole_and_comes_with_what_the_selector_loads(
    platform_scope: None, django_assert_num_queries: Any
) -> None:
    one = LocalRunFactory.create()
    pick(visibility.local_runs, one.public_id)
    with django_assert_num_queries(1):
        found = pick(visibility.local_runs, one.public_id)
        assert found.federated_round == one.federated_round
    assert not found.get_deferred_fields()
    one.refresh_from_db()
    for field in one._meta.concrete_fields:
        assert getattr(found, field.attname) == getattr(one, field.attname)


@pytest.mark.parametrize("name", ["", "rnd_", "rnd_x", "dst_01m7zzzzzzzzzzzzzzzzzzzzzz", "rnd_" + "0" * 26])
def test_a_name_of_nothing_is_not_found(platform_scope: None, name: str) -> None:
    with pytest.raises(NotFound):
        pick(visibility.rounds, name)
