"""Making federations, preparing their start prefix, and enrolling tenants."""

from django.db import IntegrityError, transaction

from federation.errors import (
    AlreadyInvited,
    BaseModelNotReady,
    DatasetDoesNotFit,
    DatasetNotReady,
    FederationNameTaken,
    FederationNotReady,
    NotInvited,
)
from federation.models import BaseModel, Enrolment, Federation, PrefixVersion
from federation.services import evaluations, personal_prefixes, prefixes, residuals
from federation.specification import LabelTask, parse_specification
from federation.states import BaseModelState, EnrolmentState, FederationState, Priority
from tenants import dispatch, storage
from tenants.models import Dataset, Tenant
from tenants.services import attempts, audit
from tenants.states import DatasetState


def create_federation(*, name: str, base_model: BaseModel, specification: object) -> Federation:
    """A federation whose start prefix a worker is asked for.

    Raises SpecificationInvalid, BaseModelNotReady and FederationNameTaken.
    """
    rules = parse_specification(specification)
    if base_model.state != BaseModelState.READY:
        raise BaseModelNotReady(base_model_id=base_model.public_id, state=base_model.state)
    try:
        with transaction.atomic():
            federation = Federation.objects.create(
                name=name,
                base_model=base_model,
                specification=rules.as_json(),
                specification_sha256=rules.sha256,
            )
            dispatch.wake_worker(federation)
    except IntegrityError:
        raise FederationNameTaken(name=name) from None
    after = audit.fields(federation, "name", "base_model", "specification_sha256", "state")
    audit.record(action="federation.created", subject=federation, after=after)
    return federation


def change_federation(*, federation: Federation, priority: Priority, weight: int) -> Federation:
    """Set its place in the fair order of work (`federation.fair_order`), from the next claim on."""
    with transaction.atomic():
        federation.lock()
        before = audit.fields(federation, "priority", "weight")
        federation.priority, federation.weight = priority, weight
        federation.save(update_fields=["priority", "weight"])
        after = audit.fields(federation, *before)
        audit.record(action="federation.changed", subject=federation, before=before, after=after)
    return federation


def accept_start(
    *, federation: Federation, start: bytes, broadcast: bytes, configuration: dict[str, object]
) -> PrefixVersion:
    """Version 0 from the training side, published at once; `broadcast` is how it travels to tenants.

    Raises LeaseLost for a stale attempt.
    """
    sha256, broadcast_sha256 = storage.put(start), storage.put(broadcast)
    with transaction.atomic():
        federation.lock_held()
        before = audit.fields(federation, "state")
        attempts.end(federation, FederationState.READY, configuration=configuration)
        after = audit.fields(federation, "state")
        audit.record(action="federation.prepared", subject=federation, before=before, after=after)
        version = PrefixVersion.objects.create(
            federation=federation,
            number=0,
            sha256=sha256,
            size_bytes=len(start),
            broadcast_sha256=broadcast_sha256,
            broadcast_size_bytes=len(broadcast),
        )
        prefixes.publish(version=version, actor="platform", reason="start prefix")
        for enrolment in Enrolment.objects.filter(federation=federation, state=EnrolmentState.ACTIVE):
            evaluations.request_first(enrolment=enrolment)
        return version


def refuse_start(*, federation: Federation, code: str, reason: str) -> None:
    """The training side cannot serve the specification. Raises LeaseLost for a stale attempt."""
    with transaction.atomic():
        federation.lock_held()
        before = audit.fields(federation, "state", "refusal_code")
        attempts.end(federation, FederationState.REFUSED, reason=reason, refusal_code=code)
        after = audit.fields(federation, *before)
        audit.record(action="federation.refused", subject=federation, before=before, after=after)


def invite(*, federation: Federation, tenant: Tenant) -> Enrolment:
    """Offer a tenant a place; one that left may be invited again. Raises AlreadyInvited and FederationNotReady."""
    if federation.state == FederationState.REFUSED:  # for good: no round will ever open
        raise FederationNotReady(federation_id=federation.public_id, state=federation.state)
    with transaction.atomic():
        enrolment, is_new = Enrolment.objects.get_or_create(federation=federation, tenant=tenant)
        if is_new:
            after = audit.fields(enrolment, "federation", "tenant", "state")
            audit.record(action="enrolment.invited", subject=enrolment, after=after)
            return enrolment
        enrolment.lock()
        if enrolment.state != EnrolmentState.LEFT:
            raise AlreadyInvited(tenant_id=tenant.public_id, federation_id=federation.public_id)
        _place(enrolment, "enrolment.invited", EnrolmentState.INVITED, None)
        return enrolment


def enrol(*, federation: Federation, tenant: Tenant, dataset: Dataset) -> Enrolment:
    """The tenant takes its place with a dataset, or changes the dataset.

    Raises NotInvited, DatasetNotReady, DatasetDoesNotFit, and NotFound where the dataset was deleted meanwhile.
    """
    with transaction.atomic():
        # Not its key: a round that opens meanwhile names it, and may have asked for a score that is asked for here.
        enrolment = (
            Enrolment.objects.select_for_update(no_key=True)
            .filter(federation=federation, tenant=tenant)
            .exclude(state=EnrolmentState.LEFT)
            .first()
        )
        if enrolment is None:
            raise NotInvited(federation_id=federation.public_id)
        dataset.lock()  # so that it is not deleted in between
        _check_fit(federation, dataset)
        _place(enrolment, "enrolment.activated", EnrolmentState.ACTIVE, dataset)
        if federation.state == FederationState.READY:
            evaluations.request_first(enrolment=enrolment)
        return enrolment


def leave(*, enrolment: Enrolment) -> Enrolment:
    """Give the place up: later rounds go on without the tenant, and no worker grows it a prefix any more."""
    with transaction.atomic():
        enrolment.lock()
        personal_prefixes.cancel_of(enrolment=enrolment)
        _place(enrolment, "enrolment.left", EnrolmentState.LEFT, None)
        residuals.forget(enrolment=enrolment)
    return enrolment


def _place(enrolment: Enrolment, action: str, state: EnrolmentState, dataset: Dataset | None) -> None:
    before = audit.fields(enrolment, "state", "dataset")
    enrolment.state, enrolment.dataset = state, dataset
    enrolment.save(update_fields=["state", "dataset"])
    after = audit.fields(enrolment, "state", "dataset")
    audit.record(action=action, subject=enrolment, before=before, after=after)


def _check_fit(federation: Federation, dataset: Dataset) -> None:
    if dataset.state != DatasetState.READY:
        raise DatasetNotReady(dataset_id=dataset.public_id, state=dataset.state)
    task = federation.rules.task
    kind = dataset.facts["kind"]
    if kind not in task.row_kinds:
        raise DatasetDoesNotFit(
            dataset_id=dataset.public_id,
            problem=f"its rows are of kind {kind}, the task takes {' or '.join(task.row_kinds)}",
        )
    if isinstance(task, LabelTask) and (
        strange := sorted(set(dataset.facts["labels"]) - set(task.label_words))
    ):
        raise DatasetDoesNotFit(
            dataset_id=dataset.public_id,
            problem=f"its label {strange[0]!r} has no label word; the federation knows {sorted(task.label_words)}",
        )
