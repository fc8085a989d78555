"""What attempts take is charged to their tenant, once, whoever ends them and however often they are delivered."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import Sum
from django.utils import timezone

from federation import tasks
from federation.models import BaseModel, Evaluation, FederatedRound, LocalRun
from federation.selectors.measures import measure_rounds
from federation.services import base_models, reconciling, rounds
from tenants import scoping
from tenants.errors import LeaseLost
from tenants.leases import Leased
from tenants.models import Dataset, Tenant, UsageDay
from tenants.services import attempts, datasets
from tests.claims import claim
from tests.factories import BaseModelFactory, DatasetFactory, EnrolmentFactory, ready_federation
from tests.federation import rounds as steps

pytestmark = pytest.mark.django_db
NOTHING = {"n_requests": 0, "device_seconds": 0, "received_bytes": 0, "sent_bytes": 0}


def usage_of(tenant: Tenant) -> dict[str, Any]:
    """All that a tenant has used."""
    with scoping.platform():
        days = UsageDay.objects.filter(tenant=tenant)
        found = days.aggregate(**{name: Sum(name, default=0) for name in NOTHING})
    return {**found, "device_seconds": float(found["device_seconds"])}


def seconds_of(tenant: Tenant) -> float:
    return float(usage_of(tenant)["device_seconds"])


def let_it_take(row: Leased, seconds: float) -> None:
    """As if the attempt that holds the row had begun so long ago."""
    with scoping.platform():
        began_at = timezone.now() - timedelta(seconds=seconds)
        assert type(row)._base_manager.filter(pk=row.pk).update(claimed_at=began_at) == 1


def near(seconds: float) -> Any:
    """Tests take their time, too; no attempt here differs from another by so little."""
    return pytest.approx(seconds, abs=5)


@pytest.fixture
def claimed(acme: Tenant) -> LocalRun:
    """A run of Acme's that a worker began 1,000 seconds ago."""
    federation = ready_federation(n_tenants=2)
    EnrolmentFactory.create(federation=federation, tenant=acme)
    started = steps.start(federation)
    [own] = [local_run for local_run in steps.runs_of(started) if local_run.tenant == acme]
    local_run = steps.claim(own)
    let_it_take(local_run, 1_000)
    return local_run


def test_a_round_adds_up_to_its_attempts(acme: Tenant, globex: Tenant) -> None:
    federation = ready_federation(n_tenants=2)
    EnrolmentFactory.create(federation=federation, tenant=acme)
    started = steps.start(federation)
    taken: dict[object, float] = {}
    for number, local_run in enumerate(steps.runs_of(started)):
        held = steps.claim(local_run)
        taken[held.tenant_id] = 100.0 * (number + 1)
        let_it_take(held, taken[held.tenant_id])
        steps.submit(held, steps.update_bytes(held, steps.change(number)))
    with scoping.platform():
        waiting = list(Evaluation.objects.select_related("tenant"))
    for evaluation in waiting:
        with scoping.tenant(evaluation.tenant_id):
            scored = claim(Evaluation, evaluation.pk, owner="worker")
        let_it_take(scored, 20_000)
        taken[evaluation.tenant_id] += 20_000
        with scoping.tenant(evaluation.tenant_id):
            attempts.end(scored, "completed", accuracy=0.8, n_rows=20)
    tasks.advance(started.public_id)

    with scoping.platform():
        ended = FederatedRound.objects.select_related("parent_version", "candidate_version").get()
        [measured] = measure_rounds([ended]).values()
        runs = list(LocalRun.objects.select_related("tenant"))
    assert ended.state == "published"
    used = {local_run.tenant_id: usage_of(local_run.tenant) for local_run in runs}
    for local_run in runs:
        assert used[local_run.tenant_id]["device_seconds"] == near(taken[local_run.tenant_id])
        assert used[local_run.tenant_id]["received_bytes"] == local_run.update_size_bytes
    # A round's measures leave out that the parent was scored, which happens once a version.
    scored_parents = len(runs) * ended.parent_version.size_bytes
    assert sum(one["sent_bytes"] for one in used.values()) == measured.down_bytes + scored_parents
    assert sum(one["received_bytes"] for one in used.values()) == measured.up_bytes
    assert usage_of(globex) == NOTHING


def test_a_second_delivery_and_a_stale_attempt_charge_nothing(claimed: LocalRun, acme: Tenant) -> None:
    before = usage_of(acme)
    with scoping.tenant(acme.id), pytest.raises(LeaseLost):
        claim(LocalRun, claimed.pk, owner="another")
    assert usage_of(acme) == before
    update = steps.update_bytes(claimed, steps.change(0))
    steps.submit(claimed, update)
    charged = usage_of(acme)
    assert charged["device_seconds"] == near(1_000)
    with pytest.raises(LeaseLost):
        steps.submit(claimed, update)
    with pytest.raises(LeaseLost):
        steps.fail(claimed)
    assert usage_of(acme) == charged


def test_a_failure_is_charged(claimed: LocalRun, acme: Tenant) -> None:
    steps.fail(claimed)
    assert seconds_of(acme) == near(1_000)


def test_a_worker_that_hands_its_run_back_is_charged_and_so_is_the_next(
    claimed: LocalRun, acme: Tenant
) -> None:
    with scoping.tenant(acme.id):
        reconciling.hand_back(claimed, code="trainer_died", reason="The trainer died.")
    again = steps.claim(claimed)
    let_it_take(again, 30_000)
    steps.submit(again, steps.update_bytes(again, steps.change(0)))
    assert seconds_of(acme) == near(31_000)
    with scoping.platform():
        parent = again.federated_round.parent_version.size_bytes
    assert usage_of(acme)["sent_bytes"] == 2 * parent


def test_a_worker_that_was_lost_is_not_charged(claimed: LocalRun, acme: Tenant) -> None:
    with scoping.platform():
        past = timezone.now() - timedelta(seconds=1)
        LocalRun.objects.update(lease_expires_at=past)
        reconciling.reconcile()
    assert steps.reload(claimed).state == "queued"
    assert seconds_of(acme) == 0


def _cancel(federated_round: FederatedRound) -> None:
    with scoping.platform():
        rounds.cancel_round(federated_round=federated_round, actor="a test")


def _pass_deadline(federated_round: FederatedRound) -> None:
    with scoping.platform():
        FederatedRound.objects.update(deadline_at=timezone.now() - timedelta(seconds=1))
    tasks.advance(federated_round.public_id)


@pytest.mark.parametrize("interrupt", [_cancel, _pass_deadline])
def test_a_run_that_is_interrupted_is_charged_until_then_and_no_longer(
    claimed: LocalRun, acme: Tenant, interrupt: Callable[[FederatedRound], None]
) -> None:
    others = [run.tenant for run in steps.runs_of(claimed.federated_round) if run.tenant != acme]
    interrupt(claimed.federated_round)
    assert steps.reload(claimed).is_finished
    assert seconds_of(acme) == near(1_000)
    with pytest.raises(LeaseLost):
        steps.submit(claimed, steps.update_bytes(claimed, steps.change(0)))
    assert seconds_of(acme) == near(1_000)
    assert [usage_of(tenant) for tenant in others] == [NOTHING, NOTHING]


@pytest.mark.parametrize("is_sound", [True, False])
def test_a_validation_is_charged(acme: Tenant, is_sound: bool) -> None:
    dataset = DatasetFactory.create(tenant=acme, state="validating", facts={})
    with scoping.tenant(acme.id):
        held = claim(Dataset, dataset.pk, owner="worker")
    let_it_take(held, 200)
    with scoping.tenant(acme.id):
        if is_sound:
            datasets.accept_dataset(dataset=held, facts={"n_rows": 7})
        else:
            datasets.refuse_dataset(dataset=held, code="value_empty", reason="Row 3 is empty.")
    assert seconds_of(acme) == near(200)


def test_the_platforms_own_work_is_charged_to_nobody(acme: Tenant) -> None:
    row = BaseModelFactory.create(state="registering")
    with scoping.platform():
        held = claim(BaseModel, row.pk, owner="worker")
        base_models.refuse_base_model(base_model=held, code="unreadable", reason="No such file.")
        assert not UsageDay.objects.exists()


def test_amounts_are_kept_to_the_microsecond(claimed: LocalRun, acme: Tenant) -> None:
    with scoping.platform():
        LocalRun.objects.filter(pk=claimed.pk).update(claimed_at=timezone.now())
    steps.fail(claimed)
    with scoping.platform():
        [day] = UsageDay.objects.filter(tenant=acme)
    assert Decimal(0) < day.device_seconds < Decimal(5)
    assert day.device_seconds.as_tuple().exponent == -6
