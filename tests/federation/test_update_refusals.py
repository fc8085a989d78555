"""Bad updates: each is refused with a code of its own, on record, and the aggregate is what it would be without it."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load, save

from federation.models import LocalRun, RoundEvent
from federation.services import aggregating, local_runs
from federation.states import LocalRunState, RoundState
from tenants import scoping, storage
from tenants.storage import Stored
from tests.factories import PREFIX_SHAPE, ready_federation
from tests.federation import rounds as steps

pytestmark = pytest.mark.django_db
NAME = "prompt_embeddings"


def metadata_of(local_run: LocalRun, **changes: str) -> dict[str, str]:
    sound = steps.update_bytes(local_run, steps.change(1))
    header_bytes = int.from_bytes(sound[:8], "little")
    metadata: dict[str, str] = json.loads(sound[8 : 8 + header_bytes])["__metadata__"]
    return {**metadata, **changes}


def forged(tensors: dict[str, np.ndarray], **changes: str) -> Callable[[LocalRun], bytes]:
    return lambda local_run: save(tensors, metadata=metadata_of(local_run, **changes))


def with_value(value: float) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    values = steps.change(1)
    values[1, 2] = value
    return values


BAD_UPDATES: dict[str, Callable[[LocalRun], bytes]] = {
    "update_not_finite": forged({NAME: with_value(np.nan)}),
    "update_shape_differs": forged({NAME: steps.change(1)[:1]}),
    "update_dtype_differs": forged({NAME: steps.change(1).astype(np.float16)}),
    "update_names_differ": forged({"weights": steps.change(1)}),
    "update_norm_too_large": forged({NAME: steps.change(1) * 1_000}),
    "update_wrong_base": forged({NAME: steps.change(1)}, base="f" * 64),
    "update_wrong_round": forged({NAME: steps.change(1)}, round="rnd_00000000000000000000000000"),
    "update_wrong_tenant": forged({NAME: steps.change(1)}, tenant="tnt_00000000000000000000000000"),
    "update_wrong_attempt": forged({NAME: steps.change(1)}, attempt="7"),
    "update_wrong_parent": forged({NAME: steps.change(1)}, parent="e" * 64),
    "update_truncated": lambda local_run: steps.update_bytes(local_run, steps.change(1))[:-8],
    "update_is_pickle": lambda _: pickle.dumps({NAME: [0.0] * 64}),
    "update_is_archive": lambda _: b"PK\x03\x04" + b"\x00" * 300,
    "blob_too_large": forged({NAME: np.zeros((PREFIX_SHAPE[0] * 10_000, PREFIX_SHAPE[1]), np.float32)}),
}


@pytest.mark.parametrize("code", BAD_UPDATES)
def test_a_bad_update_is_rejected_with_its_code_and_does_not_count(code: str) -> None:
    federated_round = steps.start(ready_federation(n_tenants=3, quorum=2))
    bad, *sound = (steps.claim(local_run) for local_run in steps.runs_of(federated_round))
    rejected = steps.submit(bad, BAD_UPDATES[code](bad))
    assert (rejected.state, rejected.rejection_code) == (LocalRunState.REJECTED, code)
    for seed, local_run in enumerate(sound):
        steps.submit(local_run, steps.update_bytes(local_run, steps.change(seed)))

    federated_round = steps.reload(federated_round)
    assert federated_round.state == RoundState.EVALUATING
    with scoping.platform():
        assert (
            RoundEvent.objects.filter(federated_round=federated_round, kind="local_run.rejected").count() == 1
        )
        parent, candidate = federated_round.parent_version, federated_round.candidate_version
    assert candidate is not None
    before = load(storage.get(parent.sha256, max_bytes=10_000))[NAME].astype(np.float64)
    mean = (steps.change(0).astype(np.float64) + steps.change(1).astype(np.float64)) / 2
    after = load(storage.get(candidate.sha256, max_bytes=10_000))[NAME]
    np.testing.assert_array_equal(after, (before + mean).astype(np.float32))


def test_an_update_replayed_in_the_next_round_is_rejected() -> None:
    federation = ready_federation(n_tenants=2, quorum=2)
    first = steps.start(federation)
    old = [steps.claim(local_run) for local_run in steps.runs_of(first)]
    replays = [steps.update_bytes(local_run, steps.change(3)) for local_run in old]
    for local_run, update in zip(old, replays, strict=True):
        steps.submit(local_run, update)
    steps.score_all(first, parent=0.9, candidate=0.1)  # kept: the parent stays the same
    second = steps.start(federation)
    claimed = steps.claim(steps.runs_of(second)[0])
    rejected = steps.submit(claimed, replays[0])
    assert rejected.rejection_code == "update_wrong_round"


def test_weights_are_the_tenants_examples_and_the_cap_holds() -> None:
    rules = {"aggregation": {"max_weight": 100, "max_relative_norm": 1.0}}
    federated_round = steps.start(ready_federation(n_tenants=2, quorum=2, **rules))
    with scoping.platform():
        for local_run, n_examples in zip(steps.runs_of(federated_round), (50, 900), strict=True):
            LocalRun.objects.filter(pk=local_run.pk).update(n_examples=n_examples)
    steps.train_all(federated_round)
    with scoping.platform():
        parent = steps.reload(federated_round).parent_version
        candidate = steps.reload(federated_round).candidate_version
    assert candidate is not None
    moved = load(storage.get(candidate.sha256, max_bytes=10_000))[NAME] - load(
        storage.get(parent.sha256, max_bytes=10_000)
    )[NAME].astype(np.float64)
    wanted = (50 * steps.change(0).astype(np.float64) + 100 * steps.change(1)) / 150
    np.testing.assert_allclose(moved, wanted, atol=1e-6)


def test_a_plan_gives_the_same_bytes_each_time_it_is_carried_out() -> None:
    federated_round = steps.start(ready_federation())
    steps.train_all(federated_round)
    with scoping.platform():
        federated_round = steps.reload(federated_round)
        candidate = federated_round.candidate_version
        plan = aggregating.plan_aggregation(federated_round=federated_round)
    assert candidate is not None
    first, second = aggregating.aggregate(plan), aggregating.aggregate(replace(plan))
    assert first == second
    assert isinstance(first.made, aggregating.Candidate)
    assert first.made.version.sha256 == candidate.sha256


def test_a_damaged_parent_is_no_tenants_fault() -> None:
    federated_round = steps.start(ready_federation())
    claimed = steps.claim(steps.runs_of(federated_round)[0])
    with scoping.platform():
        _submitted(claimed)
        [plan] = aggregating.plan_checks(federated_round=federated_round)
    with pytest.raises(storage.BlobMissing):
        aggregating.judge([replace(plan, parent=Stored("0" * 64, 500))])


def _submitted(local_run: LocalRun) -> LocalRun:
    local_runs.submit_update(
        local_run=local_run, update=steps.update_bytes(local_run, steps.change(1)), metrics={}
    )
    return local_run
