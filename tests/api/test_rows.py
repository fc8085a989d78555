"""Rows are written as REST framework itself would write them."""

from typing import Any

import pytest
from rest_framework import serializers

from api import rows
from api.audit import AuditEntrySerializer
from api.datasets import DatasetSerializer
from api.enrolments import EnrolmentSerializer
from api.evaluations import EvaluationSerializer
from api.events import RoundEventSerializer
from api.federations import FederationSerializer
from api.local_runs import LocalRunSerializer
from api.prefixes import PrefixVersionSerializer
from api.rounds import RoundSerializer
from api.rows import RowSerializer
from api.tenants import TenantSerializer
from federation.selectors import measures
from tenants.models import AuditEntry
from tenants.rights import OPERATOR_RIGHTS
from tenants.services.api_keys import create_api_key
from tenants.states import DatasetState
from tests.factories import (
    DatasetFactory,
    EnrolmentFactory,
    EvaluationFactory,
    FederatedRoundFactory,
    FederationFactory,
    LocalRunFactory,
    PrefixVersionFactory,
    RoundEventFactory,
    TenantFactory,
)

pytestmark = pytest.mark.usefixtures("platform_scope")


def assert_same(serializer: type[RowSerializer[Any]], row: Any, **context: Any) -> None:
    """Both ways give the same, in the same order."""
    written = serializer(row, context=context)
    slowly = serializers.Serializer.to_representation(written, row)
    assert list(written.data.items()) == list(slowly.items())


@pytest.mark.parametrize(
    ("serializer", "factory"),
    [
        (DatasetSerializer, DatasetFactory),
        (EnrolmentSerializer, EnrolmentFactory),
        (EvaluationSerializer, EvaluationFactory),
        (FederationSerializer, FederationFactory),
        (LocalRunSerializer, LocalRunFactory),
        (TenantSerializer, TenantFactory),
    ],
)
def test_a_row_is_written_as_by_its_base(serializer: type[RowSerializer[Any]], factory: Any) -> None:
    assert_same(serializer, factory.create())


@pytest.mark.parametrize(
    ("serializer", "factory"),
    [
        (DatasetSerializer, DatasetFactory),
        (FederationSerializer, FederationFactory),
        (LocalRunSerializer, LocalRunFactory),
    ],
)
def test_a_row_of_a_list_is_written_as_alone(serializer: type[RowSerializer[Any]], factory: Any) -> None:
    row = factory.create()
    [found] = rows.of_a_list(type(row)._base_manager.filter(pk=row.pk), serializer)
    assert isinstance(found, tuple)
    row.refresh_from_db()
    assert serializer(found).data == serializer(row).data


def test_an_event_with_its_place() -> None:
    event = RoundEventFactory.create()
    event.number = 7
    assert_same(RoundEventSerializer, event)


def test_a_row_without_some_of_its_values() -> None:
    refused = DatasetFactory.create(
        state=DatasetState.REFUSED, refusal_code="bad_row", state_reason="No text."
    )
    assert_same(DatasetSerializer, refused)
    assert_same(PrefixVersionSerializer, PrefixVersionFactory.create(), measures={})


def test_a_row_with_what_was_measured_of_it() -> None:
    one = FederatedRoundFactory.create()
    LocalRunFactory.create(federated_round=one)
    context = {"measures": measures.measure_rounds([one])}
    assert_same(RoundSerializer, one, **context)
    [found] = rows.of_a_list(type(one)._base_manager.filter(pk=one.pk), RoundSerializer)
    assert isinstance(found, tuple)
    one.refresh_from_db()
    assert measures.measure_rounds([found])[one.id].n_local_runs == {"queued": 1}
    assert RoundSerializer(found, context=context).data == RoundSerializer(one, context=context).data


def test_a_row_with_parts_of_its_own() -> None:
    create_api_key(tenant=None, name="operator", giver_rights=OPERATOR_RIGHTS)
    assert_same(AuditEntrySerializer, AuditEntry.objects.get())
