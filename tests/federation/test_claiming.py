"""What a claim brings along: the rows that a worker reads while no scope is in force, as they are in the database."""

from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from django.db import ProgrammingError, connection, models

from federation.models import BaseModel, Evaluation, Federation, LocalRun, PersonalPrefix, RoundEvent
from federation.services.claiming import KINDS
from federation.states import (
    BaseModelState,
    EvaluationState,
    FederationState,
    LocalRunState,
    PersonalPrefixState,
)
from tenants import scoping
from tenants.ids import encode, uuid7
from tenants.leases import Leased
from tenants.models import Dataset
from tenants.states import DatasetState
from tests.claims import claim
from tests.factories import (
    BaseModelFactory,
    DatasetFactory,
    EvaluationFactory,
    FederationFactory,
    LocalRunFactory,
    PersonalPrefixFactory,
)

pytestmark = pytest.mark.django_db

READ_BY_WORKERS: dict[type[Leased], tuple[str, ...]] = {
    BaseModel: (),
    Dataset: ("tenant",),
    Evaluation: ("dataset__tenant", "federation__base_model", "version"),
    Federation: ("base_model",),
    LocalRun: (
        "tenant",
        "dataset__tenant",
        "federated_round__federation__base_model",
        "federated_round__parent_version",
    ),
    PersonalPrefix: ("tenant", "dataset__tenant", "federation__base_model", "version"),
}


WAITING: dict[type[Leased], Callable[[], Leased]] = {
    BaseModel: lambda: BaseModelFactory.create(state=BaseModelState.REGISTERING),
    Dataset: lambda: DatasetFactory.create(state=DatasetState.VALIDATING),
    Evaluation: lambda: EvaluationFactory.create(state=EvaluationState.QUEUED, accuracy=None, n_rows=None),
    Federation: lambda: FederationFactory.create(state=FederationState.PREPARING),
    LocalRun: lambda: LocalRunFactory.create(state=LocalRunState.QUEUED),
    PersonalPrefix: lambda: PersonalPrefixFactory.create(state=PersonalPrefixState.QUEUED),
}
"""Rows that may be claimed."""


def rows_of(row: models.Model, paths: tuple[str, ...]) -> Iterator[models.Model]:
    """The row, and all that lies on the paths."""
    yield row
    for path in paths:
        found = row
        for name in path.split("__"):
            found = getattr(found, name)
            yield found


def values(row: models.Model) -> dict[str, object]:
    found = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
    return {name: bytes(value) if isinstance(value, memoryview) else value for name, value in found.items()}


@pytest.mark.parametrize("model", KINDS.values())
def test_a_claim_brings_along_what_the_database_holds(model: type[Leased]) -> None:
    pk = WAITING[model]().pk
    paths = READ_BY_WORKERS[model]
    with scoping.platform():
        claimed = claim(model, pk, owner="worker")
        found = model._base_manager.select_related(*paths).get(pk=pk)
    # No scope is in force: what had to be read now would raise.
    assert [values(row) for row in rows_of(claimed, paths)] == [values(row) for row in rows_of(found, paths)]
    assert (claimed.attempt, claimed.lease_owner) == (1, "worker")


def test_a_claimed_run_is_on_record_under_its_public_name() -> None:
    with scoping.platform():
        claimed = claim(LocalRun, LocalRunFactory.create().pk, owner="worker")
        event = RoundEvent.objects.get(kind="local_run.running")
    assert event.message == "Attempt 1 began."
    assert event.data == {"from": "queued", "local_run": claimed.public_id, "attempt": 1}
    assert (event.tenant_id, event.federated_round_id) == (claimed.tenant_id, claimed.federated_round_id)


def test_a_run_brings_along_what_its_parent_scores_at_its_tenant_where_that_is_known() -> None:
    known, unknown = LocalRunFactory.create(), LocalRunFactory.create()
    version = known.federated_round.parent_version
    EvaluationFactory.create(version=version, dataset=known.dataset, accuracy=0.5, loss=0.7, n_rows=10)
    EvaluationFactory.create(version=version, accuracy=0.9, loss=0.1, n_rows=10)  # another tenant's
    with scoping.platform():
        scores = [claim(LocalRun, run.pk, owner="worker").parent_score for run in (known, unknown)]
    assert scores == [{"accuracy": 0.5, "loss": 0.7, "n_rows": 10}, None]


@pytest.mark.parametrize("key", [UUID(int=0), UUID(int=2**128 - 1), *(uuid7() for _ in range(20))])
def test_the_database_encodes_ids_as_everybody_does(key: UUID) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tenants_encode_id(%s)", [key])
        assert cursor.fetchone() == (encode(key),)


def test_no_tenant_reads_the_order_or_takes_from_it() -> None:
    tenant = LocalRunFactory.create(state=LocalRunState.QUEUED).tenant
    for statement in (
        "TABLE federation_waiting",
        "SELECT federation_claim_next('worker', interval '1 minute')",
    ):
        refused = pytest.raises(ProgrammingError, match="permission denied")
        with refused, scoping.tenant(tenant.id), connection.cursor() as cursor:
            cursor.execute(statement)


def test_a_tenant_claims_nothing_of_another() -> None:
    other = DatasetFactory.create().tenant
    pk = WAITING[LocalRun]().pk
    with scoping.tenant(other.id), connection.cursor() as cursor:
        cursor.execute("SELECT federation_claim('local_run', %s, 'worker', interval '1 minute')", [pk])
        assert cursor.fetchone() == (None,)
