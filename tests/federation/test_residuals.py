"""Error feedback's residuals: whose they are, which one counts, and that they neither leak nor gather."""

from concurrent.futures import Future
from typing import IO, Any

import pytest

from federation import tasks
from federation.models import Enrolment, FederatedRound, Federation, LocalRun, PersonalPrefix, Residual
from federation.services import federations, local_runs, personal_prefixes, residuals, rounds
from federation.states import LocalRunState
from tenants import scoping, storage
from tenants.encryption import DecryptionFailed
from tenants.errors import LeaseLost
from tests.claims import claim
from tests.factories import PersonalPrefixFactory, ready_federation
from tests.federation import rounds as steps
from tests.federation.test_server_state import hold_round
from tests.racing import beside, until_it_waits

pytestmark = pytest.mark.django_db
SECRET = b"what the rounding of acme's update left out"


@pytest.fixture
def federation() -> Federation:
    """With error feedback, and three tenants of whom two are enough."""
    return ready_federation(upload={"dtype": "int4", "error_feedback": True})


def start(federation: Federation) -> tuple[FederatedRound, LocalRun]:
    """A round, and the first tenant's run in it, claimed."""
    federated_round = steps.start(steps.reload(federation))
    return federated_round, steps.claim(steps.runs_of(federated_round)[0])


def submit(local_run: LocalRun, residual: bytes, *, scale: float = 0.01) -> LocalRun:
    update = steps.update_bytes(local_run, steps.change(7, scale))
    return steps.submit(local_run, update, residual=residual)


def cancel(federated_round: FederatedRound) -> None:
    with scoping.platform():
        rounds.cancel_round(federated_round=steps.reload(federated_round), actor="operator:anna")


def accepted_round(federation: Federation, residual: bytes) -> LocalRun:
    """The first tenant's accepted run of a round that is then called off."""
    federated_round, local_run = start(federation)
    assert submit(local_run, residual).state == LocalRunState.ACCEPTED
    cancel(federated_round)
    return local_run


def last(local_run: LocalRun) -> bytes | None:
    with scoping.tenant(local_run.tenant_id):
        return residuals.read_last(local_run=local_run)


def kept() -> list[Residual]:
    with scoping.platform():
        return list(Residual.objects.order_by("pk"))


def is_stored(residual: Residual) -> bool:
    try:
        storage.open_blob(residual.blob_name).close()
    except storage.BlobMissing:
        return False
    return True


def test_a_residual_counts_once_its_update_is_accepted(federation: Federation) -> None:
    _, first = start(federation)
    assert last(first) is None
    with scoping.tenant(first.tenant_id):
        update = steps.update_bytes(first, steps.change(1))
        local_runs.submit_update(local_run=first, update=update, metrics={}, residual=SECRET)
        assert residuals.read_last(local_run=first) is None, "it is submitted, and not yet accepted"
    tasks.advance(first.federated_round.public_id)

    assert last(first) == SECRET


def test_what_a_rejected_update_left_out_is_not_used(federation: Federation) -> None:
    accepted_round(federation, b"sound")
    federated_round, second = start(federation)
    assert submit(second, b"unsound", scale=1_000).state == LocalRunState.REJECTED
    cancel(federated_round)

    _, third = start(federation)
    assert last(third) == b"sound"


def test_no_more_than_two_are_kept_whatever_becomes_of_the_runs(federation: Federation) -> None:
    for number in range(4):
        accepted_round(federation, b"residual %d" % number)
        federated_round, rejected = start(federation)
        submit(rejected, b"rejected", scale=1_000)
        cancel(federated_round)
        assert len(kept()) <= 2
    _, local_run = start(federation)
    assert last(local_run) == b"residual 3"


@pytest.mark.django_db(transaction=True)
def test_bytes_go_once_their_rows_have_gone(federation: Federation) -> None:
    runs = [accepted_round(federation, b"residual %d" % number) for number in range(2)]
    (older, newer) = kept()
    runs.append(accepted_round(federation, b"residual 2"))

    assert (is_stored(older), is_stored(newer)) == (False, True)
    assert [residual.local_run_id for residual in kept()] == [runs[1].pk, runs[2].pk]


@pytest.mark.django_db(transaction=True)
def test_an_attempt_that_lost_its_lease_leaves_nothing_behind(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[str] = []
    put = storage.put_file

    def put_file(ciphertext: IO[bytes]) -> str:
        stored.append(put(ciphertext))
        return stored[-1]

    monkeypatch.setattr(storage, "put_file", put_file)
    federated_round, local_run = start(federation)
    cancel(federated_round)

    with pytest.raises(LeaseLost):
        submit(local_run, SECRET)
    assert kept() == []
    (name,) = stored
    with pytest.raises(storage.BlobMissing):
        storage.open_blob(name)


def test_another_enrolment_has_residuals_of_its_own(federation: Federation) -> None:
    federated_round = steps.start(federation)
    one, other, third = [steps.claim(local_run) for local_run in steps.runs_of(federated_round)]
    submit(one, b"one")
    submit(other, b"other")

    assert (last(one), last(other), last(third)) == (b"one", b"other", None)
    with scoping.tenant(other.tenant_id):
        assert Residual.objects.count() == 1
        assert residuals.read_last(local_run=one) is None


def test_a_residual_is_encrypted_for_its_tenant_and_its_run(federation: Federation) -> None:
    federated_round = steps.start(federation)
    one, other = [steps.claim(local_run) for local_run in steps.runs_of(federated_round)[:2]]
    submit(one, SECRET)
    submit(other, b"other")
    first, second = kept()
    with storage.open_blob(first.blob_name) as ciphertext:
        assert SECRET not in ciphertext.read()

    with scoping.platform():
        Residual.objects.filter(pk=first.pk).update(blob_name=second.blob_name)
    with pytest.raises(DecryptionFailed):
        last(one)


@pytest.mark.parametrize("leaves_before_the_submission", [False, True])
def test_a_tenant_that_leaves_keeps_none(federation: Federation, leaves_before_the_submission: bool) -> None:
    _, local_run = start(federation)

    def leave() -> None:
        with scoping.platform():
            federations.leave(enrolment=Enrolment.objects.get(pk=local_run.enrolment_id))

    if leaves_before_the_submission:
        leave()
    submit(local_run, SECRET)
    if not leaves_before_the_submission:
        leave()

    assert kept() == []


def test_a_round_without_error_feedback_keeps_nothing() -> None:
    hold_round(ready_federation(upload={"dtype": "int8"}))

    assert kept() == []


@pytest.mark.django_db(transaction=True)
def test_a_tenant_that_leaves_while_its_update_comes_closes_no_circle_of_waiting(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both charge the tenant: for the update's attempt, and for that at a personal prefix."""
    _, local_run = start(federation)
    with scoping.platform():
        places = Enrolment.objects.select_related("tenant", "dataset", "federation")
        enrolment = places.get(pk=local_run.enrolment_id)
        version = federation.published.version
    grown = PersonalPrefixFactory.create(enrolment=enrolment, version=version)
    with scoping.platform():
        claim(PersonalPrefix, grown.pk, owner="worker")
    submitting: list[Future[LocalRun]] = []
    cancel_of = personal_prefixes.cancel_of

    def meanwhile(**given: Any) -> None:
        submitting.append(beside(lambda: submit(local_run, SECRET)))
        until_it_waits()
        cancel_of(**given)

    monkeypatch.setattr(personal_prefixes, "cancel_of", meanwhile)
    with scoping.platform():
        federations.leave(enrolment=enrolment)
    assert submitting[0].result().state == LocalRunState.ACCEPTED
    assert kept() == []
