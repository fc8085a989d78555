"""Personal prefixes: asked for by a tenant, grown by a worker, kept encrypted until the tenant deletes them."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from django.db import transaction
from pydantic import ValidationError

from federation.errors import (
    EnrolmentNotActive,
    PersonalPrefixLimitReached,
    PersonalPrefixNotCompleted,
    PersonalRuleInvalid,
    VersionOfAnotherFederation,
)
from federation.methods import PrefixSettings
from federation.models import Enrolment, Federation, PersonalPrefix, PrefixVersion
from federation.sections import first_fault
from federation.specification import DITTO_PROXIMAL, LabelTask, Training
from federation.states import (
    PERSONAL_PREFIX_LIVE,
    EnrolmentState,
    PersonalPrefixState,
    PersonalRule,
)
from tenants import dispatch, encryption, selectors, storage
from tenants.errors import PreludeError, QuotaDeviceSeconds
from tenants.models import Tenant
from tenants.services import attempts, audit
from tenants.services.tenants import data_key

DEFAULT_N_STEPS: Final = 24
MAX_PER_TENANT: Final = 50  # in one federation

# The scores are the tenant's alone, and operators read the record.
_RECORDED = ("federation", "version", "dataset", "rule", "n_steps", "learning_rate", "proximal", "state")


def grow_personal_prefix(
    *,
    enrolment: Enrolment,
    version: PrefixVersion,
    rule: PersonalRule,
    n_steps: int | None = None,
    learning_rate: float | None = None,
    proximal: float | None = None,
) -> PersonalPrefix:
    """Have a worker grow a prefix from `version` on the enrolment's dataset.

    Raises EnrolmentNotActive, VersionOfAnotherFederation, PersonalRuleInvalid, PersonalPrefixLimitReached and
    QuotaDeviceSeconds.
    """
    federation = enrolment.federation
    if version.federation_id != federation.pk:
        raise VersionOfAnotherFederation(version_id=version.public_id, federation_id=federation.public_id)
    _check_rule(federation, rule)
    settings = _settings(federation, rule, n_steps=n_steps, learning_rate=learning_rate, proximal=proximal)
    _check_device_seconds(enrolment.tenant)
    with transaction.atomic():
        enrolment.lock()  # so that neither leaving nor another request comes in between
        if enrolment.state != EnrolmentState.ACTIVE:
            raise EnrolmentNotActive(enrolment_id=enrolment.public_id, state=enrolment.state)
        if PersonalPrefix.objects.filter(enrolment=enrolment).count() >= MAX_PER_TENANT:
            raise PersonalPrefixLimitReached(federation_id=federation.public_id, limit=MAX_PER_TENANT)
        assert enrolment.dataset is not None  # an active one has it
        personal_prefix = PersonalPrefix.objects.create(
            tenant_id=enrolment.tenant_id,
            federation=federation,
            enrolment=enrolment,
            dataset=enrolment.dataset,
            version=version,
            rule=rule,
            **settings,
        )
        dispatch.wake_worker(personal_prefix)
        after = audit.fields(personal_prefix, *_RECORDED)
        audit.record(action="personal_prefix.requested", subject=personal_prefix, after=after)
        return personal_prefix


def _check_rule(federation: Federation, rule: PersonalRule) -> None:
    rules = federation.rules
    if rule != PersonalRule.PRIOR and rules.method.is_whole_model:
        # Encrypted, archived in memory and bounded by number alone: that is for adapters.
        problem = (
            f"trains a whole model for the tenant where the method is {rules.method.kind!r}; 'prior' does not"
        )
        raise PersonalRuleInvalid(field="rule", rule=rule, problem=problem)
    if rule == PersonalRule.PERSONAL_VALUES and not isinstance(rules.method, PrefixSettings):
        problem = f"needs a federation of the method 'prefix'; this one's is {rules.method.kind!r}"
        raise PersonalRuleInvalid(field="rule", rule=rule, problem=problem)
    if rule == PersonalRule.PRIOR and not isinstance(rules.task, LabelTask):
        problem = f"needs a task of kind 'label'; this one's is {rules.task.kind!r}"
        raise PersonalRuleInvalid(field="rule", rule=rule, problem=problem)


def _settings(
    federation: Federation,
    rule: PersonalRule,
    *,
    n_steps: int | None,
    learning_rate: float | None,
    proximal: float | None,
) -> dict[str, float | None]:
    """What the rule trains with, its defaults filled in; nothing for one that does not train."""
    given = {"n_steps": n_steps, "learning_rate": learning_rate, "proximal": proximal}
    taken = {
        PersonalRule.PRIOR: (),
        PersonalRule.DITTO: ("n_steps", "learning_rate", "proximal"),
    }.get(rule, ("n_steps", "learning_rate"))
    for name, value in given.items():
        if value is not None and name not in taken:
            raise PersonalRuleInvalid(field=name, rule=rule, problem="is no setting of it")
    defaults = {
        "n_steps": DEFAULT_N_STEPS,
        "learning_rate": federation.rules.method.default_learning_rate,
        "proximal": DITTO_PROXIMAL,
    }
    chosen = {name: defaults[name] if given[name] is None else given[name] for name in taken}
    batch_size = federation.rules.training.batch_size
    try:
        Training.model_validate({"optimizer": "adamw", "batch_size": batch_size, **chosen})
    except ValidationError as error:
        field, problem = first_fault(error)
        raise PersonalRuleInvalid(
            field=field or "n_steps", rule=rule, problem=f"is not valid: {problem}"
        ) from None
    return {name: chosen.get(name) for name in given}


def _check_device_seconds(tenant: Tenant) -> None:
    limit = tenant.limits.device_seconds_per_month
    spent = int(selectors.device_seconds_this_month(tenant_ids=[tenant.pk]).get(tenant.pk, 0))
    if limit is not None and spent >= limit:
        raise QuotaDeviceSeconds(tenant_id=tenant.public_id, limit=limit, used=spent)


@contextmanager
def stored(personal_prefix: PersonalPrefix, content: bytes) -> Iterator[str]:
    """The name under which the content lies encrypted; it goes when the block, which writes the name down, is refused.

    It stays where the connection was lost: the commit may have been heard. Bytes that nothing names harm nobody.
    """
    sealed = io.BytesIO()
    key = data_key(personal_prefix.tenant)
    with encryption.EncryptingWriter(sealed, key, personal_prefix.encryption_context) as writer:
        writer.write(content)
    blob_name = storage.put_file(sealed)
    try:
        yield blob_name
    except PreludeError:
        storage.delete(blob_name)
        raise


def complete_personal_prefix(
    *,
    personal_prefix: PersonalPrefix,
    blob_name: str,
    size_bytes: int,
    shared: Mapping[str, Any],
    personal: Mapping[str, Any],
) -> None:
    """Write both scores and where the bytes are. Raises LeaseLost for a stale attempt, or when it was deleted."""
    _end(
        personal_prefix,
        "personal_prefix.completed",
        PersonalPrefixState.COMPLETED,
        blob_name=blob_name,
        size_bytes=size_bytes,
        shared_accuracy=shared["accuracy"],
        shared_loss=shared["loss"],
        accuracy=personal["accuracy"],
        loss=personal["loss"],
        n_rows=personal["n_rows"],
    )


def fail_personal_prefix(*, personal_prefix: PersonalPrefix, reason: str) -> None:
    """The attempt ended for a reason that another attempt would meet again. Raises LeaseLost for a stale attempt."""
    _end(personal_prefix, "personal_prefix.failed", PersonalPrefixState.FAILED, reason=reason)


def _end(
    personal_prefix: PersonalPrefix, action: str, state: str, *, reason: str = "", **changes: Any
) -> None:
    with transaction.atomic():
        personal_prefix.lock_held()
        before = audit.fields(personal_prefix, "state")
        attempts.end(personal_prefix, state, reason=reason, **changes)
        after = audit.fields(personal_prefix, "state")
        audit.record(action=action, subject=personal_prefix, before=before, after=after)


def read_content(personal_prefix: PersonalPrefix) -> bytes:
    """What was grown, in the clear. Raises PersonalPrefixNotCompleted."""
    if personal_prefix.state != PersonalPrefixState.COMPLETED:
        raise PersonalPrefixNotCompleted(
            personal_prefix_id=personal_prefix.public_id, state=personal_prefix.state
        )
    key = data_key(personal_prefix.tenant)
    with storage.open_blob(personal_prefix.blob_name) as sealed:
        return encryption.DecryptingReader(sealed, key, personal_prefix.encryption_context).readall()


def delete_personal_prefix(*, personal_prefix: PersonalPrefix) -> None:
    """Remove the row, and the bytes once that is committed; a worker that is busy with it learns it."""
    with transaction.atomic():
        personal_prefix.lock()
        before = audit.fields(personal_prefix, *_RECORDED)
        if not personal_prefix.is_finished:
            _cancel([personal_prefix], reason="It was deleted.")
        audit.record(action="personal_prefix.deleted", subject=personal_prefix, before=before)
        blob_name = personal_prefix.blob_name
        personal_prefix.delete()
    if blob_name:
        transaction.on_commit(lambda: storage.delete(blob_name), robust=True)


def cancel_of(*, enrolment: Enrolment) -> None:
    """End what has not ended of a tenant that leaves; what was completed stays its own."""
    live = PersonalPrefix.objects.filter(enrolment=enrolment, state__in=PERSONAL_PREFIX_LIVE)
    _cancel(list(live.order_by("pk")), reason="The tenant left the federation.")


def _cancel(personal_prefixes: list[PersonalPrefix], *, reason: str) -> None:
    canceled = PersonalPrefixState.CANCELED
    attempts.interrupt(((row, canceled) for row in personal_prefixes), reason=reason)
