"""Server optimizers and averages from round to round: each version carries what the next step from it needs."""

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load

from federation.models import FederatedRound, Federation, LocalRun, PrefixVersion
from federation.services import aggregating, prefixes
from federation.states import LocalRunState, RoundState
from tenants import scoping, storage
from tenants.errors import LeaseLost
from tests.factories import ready_federation
from tests.federation import rounds as steps

pytestmark = pytest.mark.django_db
NAME = "prompt_embeddings"
AVERAGED = {"server": {"kind": "fedavgm", "momentum": 0.5}, "average_decay": 0.8}


def hold_round(federation: Federation) -> PrefixVersion:
    """A round whose candidate is published."""
    federated_round = steps.start(steps.reload(federation))
    steps.train_all(federated_round)
    steps.score_all(federated_round, parent=0.5, candidate=0.6)
    with scoping.platform():
        candidate = steps.reload(federated_round).candidate_version
    assert candidate is not None
    return candidate


def values(sha256: str, name: str = NAME) -> NDArray[np.float64]:
    found: NDArray[np.float32] = load(storage.get(sha256, max_bytes=10_000))[name]
    return found.astype(np.float64)


def test_tenants_train_on_from_the_iterate_while_the_average_is_published() -> None:
    federation = ready_federation(aggregation=AVERAGED)
    with scoping.platform():
        start = values(PrefixVersion.objects.get(federation=federation).sha256)
    mean = np.mean([steps.change(seed).astype(np.float64) for seed in range(3)], axis=0)
    first, second = hold_round(federation), hold_round(federation)

    np.testing.assert_allclose(values(first.broadcast_sha256), start + mean, atol=1e-6)
    np.testing.assert_allclose(values(first.sha256), start + 0.2 * mean, atol=1e-6)
    np.testing.assert_allclose(values(second.broadcast_sha256), start + 2.5 * mean, atol=1e-6)
    np.testing.assert_allclose(values(second.sha256), start + 0.8 * 0.2 * mean + 0.2 * 2.5 * mean, atol=1e-6)
    np.testing.assert_allclose(values(second.server_state_sha256, f"momentum:{NAME}"), 1.5 * mean, atol=1e-6)


def test_an_update_that_was_trained_from_the_average_is_rejected() -> None:
    federation = ready_federation(aggregation=AVERAGED)
    version = hold_round(federation)
    claimed = steps.claim(steps.runs_of(steps.start(steps.reload(federation)))[0])
    sound = steps.update_bytes(claimed, steps.change(1))
    wrong = sound.replace(version.broadcast_sha256.encode(), version.sha256.encode())

    assert wrong != sound
    assert steps.submit(claimed, wrong).rejection_code == "update_wrong_parent"


def test_a_round_after_a_roll_back_goes_on_from_that_versions_own_state() -> None:
    federation = ready_federation(aggregation=AVERAGED)
    first, second = hold_round(federation), hold_round(federation)
    with scoping.platform():
        prefixes.roll_back(federation=federation, version=first, actor="operator:anna")
    third = hold_round(federation)

    assert third.parent == first
    assert (third.sha256, third.broadcast_sha256) == (second.sha256, second.broadcast_sha256)
    assert third.server_state_sha256 == second.server_state_sha256 != first.server_state_sha256


def test_without_optimizer_or_average_nothing_is_kept_beside_the_version() -> None:
    version = hold_round(ready_federation())

    assert (version.broadcast_sha256, version.broadcast_size_bytes) == (version.sha256, version.size_bytes)
    assert (version.server_state_sha256, version.server_state_size_bytes) == ("", 0)


def test_a_round_with_too_few_updates_for_its_rule_fails_with_the_reason() -> None:
    federation = ready_federation(n_tenants=3)
    rules = {**federation.specification, "aggregation": {"rule": {"kind": "krum", "n_byzantine": 1}}}
    with scoping.platform():
        Federation.objects.filter(pk=federation.pk).update(specification=rules)
    federated_round = steps.start(steps.reload(federation))
    steps.train_all(federated_round)

    failed = steps.reload(federated_round)
    assert failed.state == RoundState.FAILED
    assert failed.state_reason == (
        "too_few_updates: The rule krum works on 5 updates or more; 3 were accepted."
    )
    with scoping.platform():
        assert failed.candidate_version is None
        runs = LocalRun.objects.filter(federated_round=failed)
        assert set(runs.values_list("state", flat=True)) == {LocalRunState.ACCEPTED}
    assert steps.start(steps.reload(federation)).number == 2


def test_an_outcome_that_comes_after_the_rounds_end_changes_nothing() -> None:
    federated_round = steps.start(ready_federation())
    steps.train_all(federated_round)
    with scoping.platform():
        federated_round = FederatedRound.objects.get(pk=federated_round.pk)
        federated_round.state = RoundState.AGGREGATING  # as a coordinator still has it
        plan = aggregating.plan_aggregation(federated_round=federated_round)
    outcome = aggregating.aggregate(plan)
    with scoping.platform():
        with pytest.raises(LeaseLost):
            aggregating.adopt(federated_round=federated_round, outcome=outcome)
        assert PrefixVersion.objects.count() == 2
