"""Personal prefixes: what is refused, who ends them, and where their bytes are."""

from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ObjectDoesNotExist
from django.db import OperationalError, connection
from django.db.models.functions import Now
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from federation.errors import (
    EnrolmentNotActive,
    PersonalPrefixLimitReached,
    PersonalPrefixNotCompleted,
    PersonalRuleInvalid,
    VersionOfAnotherFederation,
)
from federation.models import Enrolment, PersonalPrefix
from federation.selectors.limits import standing
from federation.services import federations, personal_prefixes, reconciling
from federation.services.claiming import claim_next
from federation.services.personal_prefixes import grow_personal_prefix
from federation.states import PersonalPrefixState, PersonalRule
from tenants import scoping, selectors
from tenants.encryption import DecryptionFailed
from tenants.errors import LeaseLost, QuotaDeviceSeconds
from tenants.models import AuditEntry, Tenant
from tests.claims import claim as claim_row
from tests.factories import (
    EnrolmentFactory,
    PersonalPrefixFactory,
    PrefixVersionFactory,
    UsageDayFactory,
    ready_federation,
)
from tests.tenants.test_limits import limit

pytestmark = pytest.mark.django_db
SHARED = {"accuracy": 0.7, "loss": 0.6, "n_rows": 20}
PERSONAL = {"accuracy": 0.8, "loss": 0.7, "n_rows": 20}
MARK = b"what only the tenant knows" * 10_000


def place(tenant: Tenant, **specification: Any) -> Enrolment:
    """The tenant's, in a federation of one."""
    return EnrolmentFactory.create(tenant=tenant, federation=ready_federation(n_tenants=0, **specification))


def grow(enrolment: Enrolment, rule: str = "fine_tune", **settings: Any) -> PersonalPrefix:
    with scoping.tenant(enrolment.tenant_id):
        version = enrolment.federation.published.version
        return grow_personal_prefix(
            enrolment=enrolment, version=settings.pop("version", version), rule=PersonalRule(rule), **settings
        )


def claim(personal_prefix: PersonalPrefix) -> PersonalPrefix:
    with scoping.platform():
        return claim_row(PersonalPrefix, personal_prefix.pk, owner="worker")


def complete(claimed: PersonalPrefix, content: bytes = MARK, **scores: Any) -> PersonalPrefix:
    """As the worker that holds it."""
    given = {"shared": SHARED, "personal": PERSONAL, **scores}
    with personal_prefixes.stored(claimed, content) as blob_name, scoping.tenant(claimed.tenant_id):
        personal_prefixes.complete_personal_prefix(
            personal_prefix=claimed, blob_name=blob_name, size_bytes=len(content), **given
        )
    return reload(claimed)


def reload(personal_prefix: PersonalPrefix) -> PersonalPrefix:
    with scoping.platform():
        return PersonalPrefix.objects.select_related("tenant").get(pk=personal_prefix.pk)


def files(settings: Settings) -> set[Path]:
    root = Path(settings.STORAGES["blobs"]["OPTIONS"]["location"])
    return {path for path in root.rglob("*") if path.is_file()}


def test_each_rule_has_the_settings_that_it_takes(acme: Tenant) -> None:
    enrolment = place(acme)

    def settings_of(rule: str, **given: Any) -> tuple[Any, Any, Any]:
        grown = grow(enrolment, rule, **given)
        return grown.n_steps, grown.learning_rate, grown.proximal

    assert settings_of("fine_tune") == (24, 0.005, None)
    assert settings_of("ditto") == (24, 0.005, 0.1)
    assert settings_of("personal_values", n_steps=3, learning_rate=0.01) == (3, 0.01, None)
    assert settings_of("ditto", proximal=2.0) == (24, 0.005, 2.0)
    assert settings_of("prior") == (None, None, None)


def test_training_is_adamws_whatever_the_rounds_use(acme: Tenant) -> None:
    sgd = {
        "optimizer": "sgd",
        "learning_rate": 1.0,
        "calibrate_labels": True,
        "proximal": 5.0,
        "batch_size": 2,
    }
    training = grow(place(acme, training=sgd), n_steps=7).rules.training
    assert (training.optimizer, training.learning_rate, training.n_steps) == ("adamw", 0.005, 7)
    assert (training.proximal, training.calibrate_labels, training.batch_size) == (0.0, False, 2)


@pytest.mark.parametrize(
    ("rule", "settings", "field"),
    [
        ("prior", {"n_steps": 5}, "n_steps"),
        ("prior", {"learning_rate": 0.01}, "learning_rate"),
        ("fine_tune", {"proximal": 1.0}, "proximal"),
        ("fine_tune", {"n_steps": 0}, "n_steps"),
        ("fine_tune", {"n_steps": 100_000}, "n_steps"),
        ("fine_tune", {"learning_rate": 0.1}, "learning_rate"),
        ("fine_tune", {"learning_rate": float("nan")}, "learning_rate"),
        ("ditto", {"proximal": -1.0}, "proximal"),
    ],
)
def test_settings_that_a_rule_does_not_take_are_refused(
    acme: Tenant, rule: str, settings: dict[str, Any], field: str
) -> None:
    with pytest.raises(PersonalRuleInvalid) as refusal:
        grow(place(acme), rule, **settings)
    assert refusal.value.field == field


def test_rules_that_the_federation_cannot_serve_are_refused(acme: Tenant) -> None:
    with pytest.raises(PersonalRuleInvalid, match="method 'prefix'; this one's is 'lora'"):
        grow(place(acme, method={"kind": "lora"}), "personal_values")
    with pytest.raises(PersonalRuleInvalid, match="kind 'label'; this one's is 'completion'"):
        grow(place(acme, task={"kind": "completion"}), "prior")


def test_no_tenant_keeps_a_whole_model_of_its_own(acme: Tenant) -> None:
    enrolment = place(acme, method={"kind": "full"})
    for rule in ("fine_tune", "ditto", "personal_values"):
        with pytest.raises(PersonalRuleInvalid, match="rule trains a whole model") as refusal:
            grow(enrolment, rule)
        assert refusal.value.field == "rule"
    assert grow(enrolment, "prior").rule == PersonalRule.PRIOR


def test_it_grows_from_the_federations_own_versions_by_those_who_take_part(acme: Tenant) -> None:
    enrolment = place(acme)
    with pytest.raises(VersionOfAnotherFederation):
        grow(enrolment, version=PrefixVersionFactory.create())
    with scoping.tenant(acme.pk):
        federations.leave(enrolment=enrolment)
    with pytest.raises(EnrolmentNotActive, match="is left"):
        grow(enrolment)


def test_their_number_is_bounded(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    enrolment = place(acme)
    monkeypatch.setattr(personal_prefixes, "MAX_PER_TENANT", 1)
    grow(enrolment)
    with pytest.raises(PersonalPrefixLimitReached):
        grow(enrolment)


def test_a_tenant_that_has_spent_its_device_seconds_grows_none(acme: Tenant) -> None:
    limit(acme, device_seconds_per_month=10)
    enrolment = place(acme)
    grow(enrolment)
    UsageDayFactory.create(tenant=acme, device_seconds=11)
    with scoping.platform():
        assert claim_next(owner="worker") is None, "it waits for the month to end, as a local run does"
    with pytest.raises(QuotaDeviceSeconds):
        grow(enrolment)


def test_one_under_way_counts_among_the_tenants_attempts(acme: Tenant) -> None:
    limit(acme, concurrent_runs=1)
    enrolment = place(acme)
    grow(enrolment), grow(enrolment)
    with scoping.platform():
        assert isinstance(claim_next(owner="worker"), PersonalPrefix)
        assert standing(limits=selectors.limits(tenant=acme))["concurrent_runs"].used == 1
        assert claim_next(owner="another") is None


def test_what_is_kept_is_ciphertext_of_the_tenants_key(
    acme: Tenant, globex: Tenant, settings: Settings
) -> None:
    before = files(settings)
    done = complete(claim(grow(place(acme))))
    [kept] = files(settings) - before
    assert "encrypted" in kept.parts, "no content-addressed name, which would tell who has the same"
    assert MARK[:26] not in kept.read_bytes()
    assert personal_prefixes.read_content(done) == MARK
    assert (done.state, done.size_bytes, done.is_better) == ("completed", len(MARK), True)
    done.tenant = globex
    with pytest.raises(DecryptionFailed):
        personal_prefixes.read_content(done)
    other = reload(PersonalPrefixFactory.create(enrolment__tenant=acme))
    other.state, other.blob_name = PersonalPrefixState.COMPLETED, done.blob_name
    with pytest.raises(DecryptionFailed):
        personal_prefixes.read_content(other)


@pytest.mark.parametrize(
    ("accuracy", "loss", "is_better"),
    [(0.6, 0.1, False), (0.7, 0.5, True), (0.7, 0.6, False), (0.8, 9.0, True)],
)
def test_the_held_out_score_says_whether_it_is_better(
    acme: Tenant, accuracy: float, loss: float, is_better: bool
) -> None:
    personal = {"accuracy": accuracy, "loss": loss, "n_rows": 20}
    assert complete(claim(grow(place(acme))), personal=personal).is_better is is_better


def test_nothing_is_read_before_it_is_completed(acme: Tenant) -> None:
    with pytest.raises(PersonalPrefixNotCompleted, match="is queued"):
        personal_prefixes.read_content(grow(place(acme)))


def test_the_record_tells_what_was_done_and_no_score(acme: Tenant) -> None:
    done = complete(claim(grow(place(acme), "ditto")))
    public_id = done.public_id
    with scoping.tenant(acme.pk):
        personal_prefixes.delete_personal_prefix(personal_prefix=done)
        entries = AuditEntry.objects.filter(object_id=public_id).order_by("happened_at")
        told = {entry.action: {**entry.before, **entry.after} for entry in entries}
    assert list(told) == [f"personal_prefix.{what}" for what in ("requested", "completed", "deleted")]
    assert told["personal_prefix.deleted"]["rule"] == "ditto"
    assert not {"accuracy", "loss", "blob_name"} & {name for facts in told.values() for name in facts}


def test_deleting_takes_the_bytes(
    acme: Tenant, settings: Settings, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    before = files(settings)
    done = complete(claim(grow(place(acme))))
    with django_capture_on_commit_callbacks(execute=True), scoping.tenant(acme.pk):
        personal_prefixes.delete_personal_prefix(personal_prefix=done)
    assert files(settings) == before
    with pytest.raises(ObjectDoesNotExist):
        reload(done)


def test_one_that_is_deleted_while_it_grows_leaves_nothing_behind(acme: Tenant, settings: Settings) -> None:
    claimed, before = claim(grow(place(acme))), files(settings)
    with scoping.tenant(acme.pk):
        personal_prefixes.delete_personal_prefix(personal_prefix=reload(claimed))
        with pytest.raises(LeaseLost):
            claimed.keep()
        claimed.acknowledge_stop()
    with pytest.raises(LeaseLost):
        complete(claimed)
    assert files(settings) == before


@pytest.mark.django_db(transaction=True)
def test_bytes_stay_where_the_answer_to_the_commit_was_lost(acme: Tenant) -> None:
    claimed = claim(grow(place(acme)))
    with pytest.raises(OperationalError), personal_prefixes.stored(claimed, MARK) as blob_name:
        with scoping.tenant(acme.pk):
            personal_prefixes.complete_personal_prefix(
                personal_prefix=claimed,
                blob_name=blob_name,
                size_bytes=len(MARK),
                shared=SHARED,
                personal=PERSONAL,
            )
        raise OperationalError("the connection was lost")
    assert personal_prefixes.read_content(reload(claimed)) == MARK


def test_a_tenant_that_leaves_ends_what_grows_and_keeps_what_has_grown(acme: Tenant) -> None:
    enrolment = place(acme)
    done, queued, running = complete(claim(grow(enrolment))), grow(enrolment), claim(grow(enrolment))
    with scoping.tenant(acme.pk):
        federations.leave(enrolment=enrolment)
    assert [reload(row).state for row in (done, queued, running)] == ["completed", "canceled", "canceled"]


def test_a_lost_workers_attempt_is_handed_back_and_ends_nothing_any_more(
    acme: Tenant, settings: Settings
) -> None:
    lost = claim(grow(place(acme)))
    with scoping.platform():
        PersonalPrefix.objects.update(lease_expires_at=Now())
        reconciling.reconcile()
    assert (reload(lost).state, reload(lost).lease_owner) == (PersonalPrefixState.QUEUED, "")
    again, before = claim(lost), files(settings)
    assert again.attempt == 2
    with pytest.raises(LeaseLost):
        complete(lost)
    assert files(settings) == before
    assert complete(again).state == PersonalPrefixState.COMPLETED


def test_after_the_last_attempt_it_fails_with_its_code(acme: Tenant, settings: Settings) -> None:
    settings.MAX_ATTEMPTS = 1
    claimed = claim(grow(place(acme)))
    with scoping.tenant(acme.pk):
        reconciling.hand_back(claimed, code="worker_lost", reason="It was not heard of.")
    failed = reload(claimed)
    assert failed.state == PersonalPrefixState.FAILED
    assert failed.state_reason.startswith("worker_lost: ")


def test_another_tenants_are_behind_the_wall(acme: Tenant, globex: Tenant) -> None:
    grow(place(acme))
    counted = {}
    for tenant in (acme, globex):
        with scoping.tenant(tenant.pk), connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM federation_personalprefix")
            counted[tenant.name] = cursor.fetchone()[0]
    assert counted == {"Acme": 1, "Globex": 0}
