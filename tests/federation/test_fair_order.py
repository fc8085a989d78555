"""Which waiting work begins next: no tenant and no federation waits for all that another has queued."""

from collections.abc import Iterable
from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks

from federation.models import ClaimClock, ClaimShare, Evaluation, Federation, LocalRun
from federation.selectors.waiting import Forecast, forecast
from federation.services.claiming import claim_next
from federation.services.federations import change_federation
from federation.services.rounds import cancel_round
from federation.states import BaseModelState, EvaluationState, Priority
from tenants import dispatch, scoping
from tenants.leases import Leased
from tenants.models import Dataset, Tenant
from tenants.services import attempts
from tenants.states import DatasetState
from tests.conftest import Message
from tests.factories import (
    BaseModelFactory,
    DatasetFactory,
    EnrolmentFactory,
    EvaluationFactory,
    FederatedRoundFactory,
    FederationFactory,
    LocalRunFactory,
    PrefixVersionFactory,
    TenantFactory,
    UsageDayFactory,
)
from tests.racing import at_once
from tests.tenants.test_limits import limit

pytestmark = pytest.mark.django_db


def in_training(tenants: Iterable[Tenant]) -> Federation:
    """A federation with a round whose local runs all wait."""
    parent = PrefixVersionFactory.create(federation=FederationFactory.create())
    started = FederatedRoundFactory.create(parent_version=parent)
    for tenant in tenants:
        enrolment = EnrolmentFactory.create(tenant=tenant, federation=parent.federation)
        LocalRunFactory.create(federated_round=started, enrolment=enrolment)
    return parent.federation


def tenants(n: int) -> list[Tenant]:
    return [TenantFactory.create() for _ in range(n)]


def asked_for_scores(tenants: Iterable[Tenant], *, n_each: int) -> None:
    """Evaluations of one federation that wait."""
    version = PrefixVersionFactory.create()
    for tenant in tenants:
        for _ in range(n_each):
            EvaluationFactory.create(
                version=version,
                dataset=DatasetFactory.create(tenant=tenant),
                state=EvaluationState.QUEUED,
                accuracy=None,
                n_rows=None,
            )


def begin() -> Leased | None:
    """A worker takes what is next."""
    with scoping.platform():
        return claim_next(owner="worker")


def begun(n: int) -> list[LocalRun]:
    """The next `n` pieces of work, all of them local runs."""
    found = []
    for _ in range(n):
        row = begin()
        assert isinstance(row, LocalRun)
        found.append(row)
    return found


def federation_of(local_run: LocalRun) -> Federation:
    return local_run.federated_round.federation


def test_whatever_waits_is_claimed_once_and_then_nothing_is_left() -> None:
    in_training(tenants(2))
    DatasetFactory.create(state=DatasetState.VALIDATING)
    FederationFactory.create(state="preparing")
    BaseModelFactory.create(state=BaseModelState.REGISTERING)
    EvaluationFactory.create(state=EvaluationState.QUEUED, accuracy=None, n_rows=None)
    claimed = [begin() for _ in range(6)]
    assert len({row.pk for row in claimed if row}) == 6
    assert all(row.attempt == 1 and row.lease_owner == "worker" for row in claimed if row)
    assert begin() is None


def test_a_tenant_with_one_run_starts_after_one_more_of_a_tenant_with_hundreds(
    acme: Tenant, globex: Tenant
) -> None:
    for _ in range(150):
        in_training([acme])
    begun(20)
    in_training([globex])
    assert globex in [run.tenant for run in begun(2)]


def test_tenants_of_a_federation_take_turns(acme: Tenant, globex: Tenant) -> None:
    asked_for_scores([acme, globex], n_each=4)
    order = [row.tenant_id for _ in range(8) if isinstance(row := begin(), Evaluation)]
    assert order == [acme.id, globex.id] * 4


def test_a_tenant_of_twice_the_weight_has_twice_the_starts(acme: Tenant, globex: Tenant) -> None:
    asked_for_scores([acme, globex], n_each=6)
    limit(acme, weight=2)
    order = [row.tenant_id for _ in range(9) if isinstance(row := begin(), Evaluation)]
    assert (order.count(acme.id), order.count(globex.id)) == (6, 3)


def test_a_large_federation_does_not_crowd_out_a_small_one() -> None:
    large, small = in_training(tenants(8)), in_training(tenants(3))
    order = [federation_of(run) for run in begun(6)]
    assert order.count(small) == order.count(large) == 3


def test_a_federation_of_twice_the_weight_has_twice_the_starts() -> None:
    heavy, light = in_training(tenants(9)), in_training(tenants(9))
    with scoping.platform():
        change_federation(federation=heavy, priority=Priority.NORMAL, weight=2)
    order = [federation_of(run) for run in begun(9)]
    assert (order.count(heavy), order.count(light)) == (6, 3)


def test_an_idle_tenant_gathers_no_credit(acme: Tenant, globex: Tenant) -> None:
    for _ in range(10):
        in_training([acme])
    begun(10)
    for _ in range(4):
        in_training([acme])
        in_training([globex])
    order = [run.tenant.name for run in begun(8)]
    assert all(set(order[at : at + 2]) == {"Acme", "Globex"} for at in range(0, 8, 2)), order


def test_a_class_waits_for_higher_ones() -> None:
    background, normal, urgent = (in_training(tenants(2)) for _ in range(3))
    with scoping.platform():
        change_federation(federation=background, priority=Priority.BACKGROUND, weight=1)
        change_federation(federation=urgent, priority=Priority.URGENT, weight=1)
    order = [federation_of(run) for run in begun(6)]
    assert order == [urgent, urgent, normal, normal, background, background]


def test_an_upload_is_checked_while_rounds_wait(acme: Tenant) -> None:
    in_training(tenants(20))
    dataset = DatasetFactory.create(tenant=acme, state=DatasetState.VALIDATING)
    begun(1)
    assert begin() == Dataset(pk=dataset.pk)


def test_canceled_work_is_not_begun() -> None:
    federation = in_training(tenants(2))
    with scoping.platform():
        cancel_round(federated_round=federation.rounds.get(), actor="operator:anna")
    assert begin() is None


@pytest.mark.django_db(transaction=True)
def test_workers_that_claim_at_once_take_different_work() -> None:
    in_training(tenants(6))
    claimed = at_once(8, begin)
    assert len({row.pk for row in claimed if row}) == 6
    assert claimed.count(None) == 2
    with scoping.platform():
        assert ClaimShare.objects.filter(finish_tag__gt=0).count() == 7  # six tenants and their federation


def test_a_claim_that_is_rolled_back_costs_no_share(acme: Tenant) -> None:
    in_training([acme])
    with pytest.raises(RuntimeError), scoping.platform():
        claim_next(owner="worker")
        raise RuntimeError
    with scoping.platform():
        assert not ClaimShare.objects.exists()
    assert len(begun(1)) == 1


def test_the_place_in_the_order_is_that_in_which_work_begins(acme: Tenant, globex: Tenant) -> None:
    for _ in range(3):
        in_training([acme])
    in_training([globex, *tenants(4)])
    with scoping.platform():
        waiting = list(LocalRun.objects.all())
        foreseen = {forecast(run).place: run.pk for run in waiting}
    assert [foreseen[place] for place in range(1, 9)] == [run.pk for run in begun(8)]
    with scoping.platform():
        assert forecast(waiting[0]) == Forecast(place=None, seconds=None), "it has begun"


def test_a_tenant_with_as_many_attempts_as_it_may_have_is_passed_over(acme: Tenant, globex: Tenant) -> None:
    limit(acme, concurrent_runs=2)
    for _ in range(4):
        in_training([acme])
    in_training([globex])
    assert [run.tenant for run in begun(3)].count(acme) == 2
    assert begin() is None
    limit(acme, concurrent_runs=3)
    assert [run.tenant for run in begun(1)] == [acme]
    assert begin() is None


def test_work_of_every_kind_counts_and_waits(acme: Tenant) -> None:
    limit(acme, concurrent_runs=1)
    in_training([acme])
    asked_for_scores([acme], n_each=1)
    DatasetFactory.create(tenant=acme, state=DatasetState.VALIDATING)
    kinds = set()
    for _ in range(3):
        row = begin()
        assert row is not None
        assert begin() is None, f"{row} is under way"
        kinds.add(type(row))
        with scoping.platform():
            attempts.interrupt([(row, "failed" if type(row) is not Dataset else "refused")], reason="A test.")
    assert kinds == {LocalRun, Evaluation, Dataset}


def test_what_waits_for_a_limit_has_no_place(acme: Tenant, globex: Tenant) -> None:
    limit(acme, concurrent_runs=1)
    in_training([acme])
    begun(1)
    in_training([acme])
    in_training([globex])
    with scoping.platform():
        places = {run.tenant.name: forecast(run).place for run in LocalRun.objects.filter(state="queued")}
    assert places == {"Acme": None, "Globex": 1}


def test_a_place_that_a_canceled_round_frees_is_told_at_once(
    acme: Tenant,
    globex: Tenant,
    sent_messages: list[Message],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    limit(acme, concurrent_runs=1)
    in_training([acme, globex])
    in_training([acme])
    first, *_ = begun(2)
    sent_messages.clear()
    with django_capture_on_commit_callbacks(execute=True), scoping.platform():
        cancel_round(federated_round=first.federated_round, actor="operator:anna")
    assert [message for message in sent_messages if message.task_name == dispatch.WORK] == [
        Message(dispatch.WORK, [], dispatch.GPU_QUEUE)
    ]
    assert [run.tenant for run in begun(1)] == [acme]


def test_runs_of_a_tenant_that_has_spent_its_month_do_not_begin(acme: Tenant, globex: Tenant) -> None:
    limit(acme, device_seconds_per_month=100)
    in_training([acme, globex])
    asked_for_scores([acme], n_each=1)
    UsageDayFactory.create(tenant=acme, device_seconds=60)
    UsageDayFactory.create(
        tenant=acme, day=timezone.now().date().replace(day=1) - timedelta(days=1), device_seconds=999
    )
    with scoping.platform():
        waiting = LocalRun.objects.get(tenant=acme)
        assert forecast(waiting).place is not None, "the last month's seconds are no more"
    limit(acme, device_seconds_per_month=60)
    rows = [begin() for _ in range(3)]
    assert [type(row) for row in rows if row].count(LocalRun) == 1
    assert {type(row) for row in rows} == {LocalRun, Evaluation, type(None)}
    with scoping.platform():
        assert forecast(waiting).place is None


def test_the_time_until_a_run_begins_follows_from_its_place_and_the_last_starts() -> None:
    in_training(tenants(6))

    def foreseen() -> list[float | None]:
        with scoping.platform():
            waiting = LocalRun.objects.filter(state="queued")
            return sorted((forecast(run).seconds for run in waiting), key=lambda seconds: seconds or 0)

    def let_pass(seconds: float) -> None:
        with scoping.platform():
            ago = timezone.now() - timedelta(seconds=seconds)
            assert ClaimClock.objects.update(last_start_at=ago) == 1

    assert set(foreseen()) == {None}, "nothing has begun yet"
    begun(1)
    assert set(foreseen()) == {None}, "one start tells no pace"
    let_pass(20)
    begun(1)
    assert foreseen() == pytest.approx([20, 40, 60, 80], rel=0.05)
    let_pass(70)
    begun(1)
    assert foreseen() == pytest.approx([30, 60, 90], rel=0.05)
    let_pass(601)
    assert set(foreseen()) == {None}, "long ago"
    begun(1)
    assert set(foreseen()) == {None}, "the pause tells nothing of the workers"
