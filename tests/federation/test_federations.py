"""Making federations and enrolling tenants."""

import io
import json
from typing import Any

import pytest

from federation.errors import (
    AlreadyInvited,
    AlreadyPublished,
    BaseModelDirectoryInvalid,
    BaseModelNameTaken,
    BaseModelNotReady,
    DatasetDoesNotFit,
    DatasetNotReady,
    FederationNameTaken,
    FederationNotReady,
    NotInvited,
    SpecificationInvalid,
    VersionOfAnotherFederation,
)
from federation.models import BaseModel, Enrolment, Evaluation, Federation, PublishRecord
from federation.services import base_models, federations, prefixes
from federation.specification import FederationSpecification, parse_specification
from federation.states import BaseModelState, EnrolmentState, FederationState
from tenants.errors import LeaseLost, NotFound
from tenants.models import Tenant
from tenants.services.datasets import delete_dataset
from tenants.states import DatasetState
from tests.claims import claim
from tests.factories import (
    SPECIFICATION,
    BaseModelFactory,
    DatasetFactory,
    FederationFactory,
    PrefixVersionFactory,
    prefix_bytes,
    ready_federation,
)
from training_workers.examples import DatasetLimits, validate

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("platform_scope")]


def changed(**sections: Any) -> dict[str, Any]:
    return {**SPECIFICATION, **sections}


@pytest.mark.parametrize(
    ("specification", "field"),
    [
        ({}, "method"),
        ("prefix", "specification"),
        (changed(method="prefix"), "method"),
        (changed(method={"kind": "magic"}), "method"),
        (changed(colour="red"), "colour"),
        (
            changed(method={"kind": "prefix", "n_virtual_tokens": 0, "start_text": "x"}),
            "method.prefix.n_virtual_tokens",
        ),
        (changed(method={"kind": "prefix", "start_text": " "}), "method.prefix.start_text"),
        (changed(method={"kind": "lora", "rank": 0}), "method.lora.rank"),
        (changed(method={"kind": "lora", "start_text": "x"}), "method.lora.start_text"),
        (changed(method={"kind": "lora", "target_modules": ["q proj"]}), "method.lora.target_modules.0"),
        (changed(method={"kind": "lora", "target_modules": []}), "method.lora.target_modules"),
        (changed(aggregation={"rule": {"kind": "loudest"}}), "aggregation.rule"),
        (changed(aggregation={"rule": {"kind": "trimmed_mean"}}), "aggregation.rule.trimmed_mean.n_trimmed"),
        (changed(aggregation={"rule": {"kind": "median"}}), "round.quorum"),
        (changed(aggregation={"rule": {"kind": "krum", "n_byzantine": 1}}), "round.quorum"),
        (changed(aggregation={"server": {"kind": "fedsgd"}}), "aggregation.server"),
        (
            changed(aggregation={"server": {"kind": "fedadam", "beta_1": 1.0}}),
            "aggregation.server.fedadam.beta_1",
        ),
        (changed(aggregation={"average_decay": 1.0}), "aggregation.average_decay"),
        (changed(training={"learning_rate": float("nan")}), "training.learning_rate"),
        (changed(training={"learning_rate": 0.1}), "training.learning_rate"),
        (changed(training={"optimizer": "sgd"}), "training.learning_rate"),
        (changed(training={"optimizer": "sgd", "learning_rate": 11.0}), "training.learning_rate"),
        (changed(training={"optimizer": "lion"}), "training.optimizer"),
        (changed(training={"proximal": -1.0}), "training.proximal"),
        (
            changed(task={"kind": "completion", "max_tokens": 64}, training={"calibrate_labels": True}),
            "specification",
        ),
        (changed(round={"quorum": 0}), "round.quorum"),
        (
            changed(task={"kind": "label", "template": "{text}", "label_words": {"a": " x"}}),
            "task.label.label_words",
        ),
        (
            changed(task={"kind": "label", "template": "text", "label_words": {"a": " x", "b": " y"}}),
            "task.label",
        ),
        (
            changed(task={"kind": "label", "template": "{text}", "label_words": {"a": " x", "b": " x"}}),
            "task.label",
        ),
        (
            changed(task={"kind": "label", "template": "{text}", "label_words": {"a ": " x", "b": " y"}}),
            "task.label",
        ),
        (changed(task={"kind": "poem"}), "task"),
    ],
)
def test_a_faulty_specification_is_refused_with_its_field(specification: object, field: str) -> None:
    base_model = BaseModelFactory.create()
    with pytest.raises(SpecificationInvalid) as refusal:
        federations.create_federation(name="x", base_model=base_model, specification=specification)
    assert refusal.value.field == field
    assert not Federation.objects.exists()


def test_a_specification_has_the_same_digest_however_it_is_written() -> None:
    reordered = dict(reversed(list(SPECIFICATION.items())))
    assert parse_specification(reordered).sha256 == parse_specification(SPECIFICATION).sha256
    other = parse_specification(changed(gate={"tolerance": 0.1}))
    assert other.sha256 != parse_specification(SPECIFICATION).sha256
    assert FederationSpecification.model_validate(other.as_json()) == other


def test_a_federation_needs_a_ready_base_and_a_free_name() -> None:
    registering = BaseModelFactory.create(state=BaseModelState.REGISTERING)
    with pytest.raises(BaseModelNotReady):
        federations.create_federation(name="x", base_model=registering, specification=SPECIFICATION)
    ready = BaseModelFactory.create()
    federations.create_federation(name="x", base_model=ready, specification=SPECIFICATION)
    with pytest.raises(FederationNameTaken):
        federations.create_federation(name="x", base_model=ready, specification=SPECIFICATION)


@pytest.mark.parametrize("directory", ["/etc", "../secrets", "a/../../b", "", "."])
def test_a_base_model_lies_below_the_root(directory: str) -> None:
    with pytest.raises(BaseModelDirectoryInvalid):
        base_models.register_base_model(name="x", directory=directory, source="s", licence="l")


def test_base_models_have_names_of_their_own() -> None:
    base_models.register_base_model(name="x", directory="x", source="s", licence="l")
    with pytest.raises(BaseModelNameTaken):
        base_models.register_base_model(name="x", directory="y", source="s", licence="l")


def test_what_was_refused_leaves_its_name_to_others() -> None:
    row = base_models.register_base_model(name="x", directory="x", source="s", licence="l")
    claimed = claim(BaseModel, row.pk, owner="worker")
    base_models.refuse_base_model(base_model=claimed, code="unreadable", reason="No such file.")
    base_models.register_base_model(name="x", directory="y", source="s", licence="l")
    base_model = BaseModelFactory.create()
    refused = federations.create_federation(name="x", base_model=base_model, specification=SPECIFICATION)
    held = claim(Federation, refused.pk, owner="worker")
    federations.refuse_start(federation=held, code="unfit", reason="It does not fit.")
    federations.create_federation(name="x", base_model=base_model, specification=SPECIFICATION)
    with pytest.raises(FederationNameTaken):
        federations.create_federation(name="x", base_model=base_model, specification=SPECIFICATION)


def test_the_start_prefix_is_version_0_and_published() -> None:
    federation = FederationFactory.create(state=FederationState.PREPARING)
    claimed = claim(Federation, federation.pk, owner="worker")
    start = prefix_bytes()
    federations.accept_start(
        federation=claimed, start=start, broadcast=start, configuration={"peft_type": "PREFIX_TUNING"}
    )
    federation = Federation.objects.get(pk=federation.pk)
    assert (federation.state, federation.published.version.number) == (FederationState.READY, 0)
    assert PublishRecord.objects.get(federation=federation).old is None
    with pytest.raises(LeaseLost):
        federations.accept_start(federation=claimed, start=start, broadcast=start, configuration={})


def test_a_tenant_enrols_where_it_is_invited_and_its_first_scores_are_asked_for(acme: Tenant) -> None:
    federation = ready_federation(n_tenants=0)
    dataset = DatasetFactory.create(tenant=acme)
    with pytest.raises(NotInvited):
        federations.enrol(federation=federation, tenant=acme, dataset=dataset)
    federations.invite(federation=federation, tenant=acme)
    with pytest.raises(AlreadyInvited):
        federations.invite(federation=federation, tenant=acme)
    enrolment = federations.enrol(federation=federation, tenant=acme, dataset=dataset)
    assert enrolment.state == EnrolmentState.ACTIVE
    versions = [
        evaluation.version and evaluation.version.number for evaluation in Evaluation.objects.order_by("id")
    ]
    assert versions == [None, 0]


def test_a_refused_federation_invites_nobody(acme: Tenant) -> None:
    federation = FederationFactory.create(state=FederationState.PREPARING)
    claimed = claim(Federation, federation.pk, owner="worker")
    federations.refuse_start(federation=claimed, code="specification_invalid", reason="No such module.")
    with pytest.raises(FederationNotReady, match="is refused"):
        federations.invite(federation=Federation.objects.get(pk=federation.pk), tenant=acme)
    assert not Enrolment.objects.exists()


def test_whoever_left_is_out_until_it_is_invited_again(acme: Tenant) -> None:
    federation = ready_federation(n_tenants=0)
    dataset = DatasetFactory.create(tenant=acme)
    federations.invite(federation=federation, tenant=acme)
    federations.leave(enrolment=federations.enrol(federation=federation, tenant=acme, dataset=dataset))
    with pytest.raises(NotInvited):
        federations.enrol(federation=federation, tenant=acme, dataset=dataset)
    assert federations.invite(federation=federation, tenant=acme).state == EnrolmentState.INVITED
    federations.enrol(federation=federation, tenant=acme, dataset=dataset)
    assert Enrolment.objects.get(tenant=acme).state == EnrolmentState.ACTIVE


@pytest.mark.parametrize(
    ("facts", "error"),
    [
        ({"kind": "completion", "n_train": 80}, DatasetDoesNotFit),
        ({"kind": "label", "n_train": 80, "labels": {"positive": 1, "angry": 3}}, DatasetDoesNotFit),
    ],
)
def test_a_dataset_must_fit_the_task(acme: Tenant, facts: dict[str, object], error: type[Exception]) -> None:
    federation = ready_federation(n_tenants=0)
    federations.invite(federation=federation, tenant=acme)
    with pytest.raises(error):
        federations.enrol(
            federation=federation, tenant=acme, dataset=DatasetFactory.create(tenant=acme, facts=facts)
        )
    assert Enrolment.objects.get(tenant=acme).state == EnrolmentState.INVITED


def test_conversations_are_rows_of_a_completion_task(acme: Tenant) -> None:
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    lines = [json.dumps({"messages": [{"role": "system", "content": str(n)}, *turns]}) for n in range(40)]
    facts = validate(io.BytesIO("\n".join(lines).encode()), "jsonl", limits=DatasetLimits()).to_dict()
    federation = ready_federation(n_tenants=0, task={"kind": "completion"})
    federations.invite(federation=federation, tenant=acme)
    dataset = DatasetFactory.create(tenant=acme, facts=facts)
    enrolment = federations.enrol(federation=federation, tenant=acme, dataset=dataset)
    dataset.refresh_from_db()
    assert (enrolment.state, dataset.facts["kind"]) == (EnrolmentState.ACTIVE, "chat")
    labels = ready_federation(n_tenants=0)
    federations.invite(federation=labels, tenant=acme)
    with pytest.raises(DatasetDoesNotFit):
        federations.enrol(federation=labels, tenant=acme, dataset=dataset)


def test_a_dataset_must_be_ready(acme: Tenant) -> None:
    federation = ready_federation(n_tenants=0)
    federations.invite(federation=federation, tenant=acme)
    validating = DatasetFactory.create(tenant=acme, state=DatasetState.VALIDATING)
    with pytest.raises(DatasetNotReady):
        federations.enrol(federation=federation, tenant=acme, dataset=validating)


def test_a_dataset_that_was_deleted_meanwhile_is_not_found(acme: Tenant) -> None:
    federation, dataset = ready_federation(), DatasetFactory.create(tenant=acme)
    federations.invite(federation=federation, tenant=acme)
    delete_dataset(dataset=dataset)
    with pytest.raises(NotFound):
        federations.enrol(federation=federation, tenant=acme, dataset=dataset)


def test_rolling_back_needs_another_version_of_the_same_federation() -> None:
    federation = ready_federation(n_tenants=0)
    with pytest.raises(AlreadyPublished):
        prefixes.roll_back(federation=federation, version=federation.published.version, actor="operator:anna")
    with pytest.raises(VersionOfAnotherFederation):
        prefixes.roll_back(
            federation=federation, version=PrefixVersionFactory.create(), actor="operator:anna"
        )
    assert PublishRecord.objects.count() == 0
