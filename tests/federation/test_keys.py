"""Rows that name another tenant's row: refused by PostgreSQL itself, even to the platform, which no policy stops."""

from collections.abc import Callable
from uuid import uuid4

import pytest
from django.db import IntegrityError, models, transaction

from federation.models import Enrolment, Evaluation, LocalRun
from tenants import scoping
from tenants.models import Dataset, Tenant
from tests.factories import (
    DatasetFactory,
    EnrolmentFactory,
    EvaluationFactory,
    FederatedRoundFactory,
    FederationFactory,
    LocalRunFactory,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def of_globex(globex: Tenant) -> Dataset:
    """The other tenant's dataset."""
    return DatasetFactory.create(tenant=globex)


def enrolment_with_their_dataset(acme: Tenant, theirs: Dataset) -> models.Model:
    return Enrolment(tenant=acme, federation=FederationFactory.create(), dataset=theirs)


def local_run_with_their_dataset(acme: Tenant, theirs: Dataset) -> models.Model:
    own = EnrolmentFactory.create(tenant=acme)
    federated_round = FederatedRoundFactory.create()
    return LocalRun(tenant=acme, federated_round=federated_round, enrolment=own, dataset=theirs, n_examples=1)


def local_run_in_their_enrolment(acme: Tenant, theirs: Dataset) -> models.Model:
    enrolment = EnrolmentFactory.create(tenant=theirs.tenant, dataset=theirs)
    federated_round = FederatedRoundFactory.create()
    own = DatasetFactory.create(tenant=acme)
    return LocalRun(
        tenant=acme, federated_round=federated_round, enrolment=enrolment, dataset=own, n_examples=1
    )


def evaluation_on_their_dataset(acme: Tenant, theirs: Dataset) -> models.Model:
    return Evaluation(tenant=acme, federation=FederationFactory.create(), dataset=theirs)


CROSSING = [
    enrolment_with_their_dataset,
    local_run_with_their_dataset,
    local_run_in_their_enrolment,
    evaluation_on_their_dataset,
]


@pytest.mark.parametrize("crossing", CROSSING)
def test_a_row_that_names_another_tenants_row_is_refused(
    acme: Tenant, of_globex: Dataset, crossing: Callable[[Tenant, Dataset], models.Model]
) -> None:
    row = crossing(acme, of_globex)
    refused = pytest.raises(IntegrityError, match="_same_tenant")
    with scoping.platform(), refused, transaction.atomic():
        row.save(force_insert=True)


def enrolment_of(acme: Tenant) -> models.Model:
    return EnrolmentFactory.create(tenant=acme)


def local_run_of(acme: Tenant) -> models.Model:
    return LocalRunFactory.create(enrolment=EnrolmentFactory.create(tenant=acme))


def evaluation_of(acme: Tenant) -> models.Model:
    return EvaluationFactory.create(dataset=DatasetFactory.create(tenant=acme))


@pytest.mark.parametrize("make", [enrolment_of, local_run_of, evaluation_of])
def test_a_row_cannot_be_moved_to_another_tenants_row(
    acme: Tenant, of_globex: Dataset, make: Callable[[Tenant], models.Model]
) -> None:
    row = make(acme)
    refused = pytest.raises(IntegrityError, match="_same_tenant")
    with scoping.platform(), refused, transaction.atomic():
        type(row)._base_manager.filter(pk=row.pk).update(dataset=of_globex)


def test_a_refusal_does_not_tell_whether_another_tenant_has_such_a_row(
    acme: Tenant, globex: Tenant, of_globex: Dataset
) -> None:
    """Globex has an evaluation on its dataset; Acme asks for the like of it, and of one that nobody has."""
    evaluation = EvaluationFactory.create(tenant=globex, dataset=of_globex)
    texts = []
    for dataset_id in (of_globex.pk, uuid4()):
        with scoping.tenant(acme.id), pytest.raises(IntegrityError) as refused, transaction.atomic():
            Evaluation.objects.create(
                tenant=acme,
                federation_id=evaluation.federation_id,
                version_id=evaluation.version_id,
                dataset_id=dataset_id,
            )
        texts.append(str(refused.value).replace(str(dataset_id), "…"))
    assert texts[0] == texts[1]
    assert "evaluation_dataset_id_same_tenant" in texts[0]
