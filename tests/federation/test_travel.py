"""Rounds whose updates and versions travel as small integers."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from federation.aggregation.wire import decode, encode
from federation.models import FederatedRound, LocalRun, PrefixVersion
from federation.states import LocalRunState
from tenants import scoping, storage
from tests.factories import PREFIX_SHAPE, ready_federation
from tests.federation import rounds as steps
from tests.federation.test_server_state import NAME, hold_round, values

pytestmark = pytest.mark.django_db
SMALL: dict[str, Any] = {"upload": {"dtype": "int4"}, "broadcast": {"dtype": "int8"}}


def travelled(seed: int) -> NDArray[np.float64]:
    """A tenant's change, as the coordinator gets it."""
    shapes = {NAME: PREFIX_SHAPE}
    return decode(encode({NAME: steps.change(seed)}, "int4", {}), "int4", shapes)[NAME].astype(np.float64)


def broadcast_of(version: PrefixVersion) -> bytes:
    return storage.get(version.broadcast_sha256, max_bytes=version.broadcast_size_bytes)


def test_updates_count_as_they_travelled_and_the_iterate_goes_on_whole() -> None:
    federation = ready_federation(**SMALL)
    with scoping.platform():
        start = values(PrefixVersion.objects.get(federation=federation).sha256)
    mean = np.mean([travelled(seed) for seed in range(3)], axis=0)
    first, second = hold_round(federation), hold_round(federation)

    np.testing.assert_allclose(values(first.sha256), start + mean, atol=1e-6)
    np.testing.assert_allclose(values(second.sha256), start + 2 * mean, atol=1e-6)
    exact = values(second.sha256)
    half_a_step = np.abs(exact).max() / 127 / 2
    found = decode(broadcast_of(second), "int8")[NAME]
    np.testing.assert_allclose(found, exact, atol=half_a_step * 1.001)


def test_the_bytes_that_are_told_are_those_that_travelled() -> None:
    federation = ready_federation(**SMALL)
    version = hold_round(federation)
    federated_round = steps.start(steps.reload(federation))
    steps.train_all(federated_round)
    with scoping.platform():
        local_run = LocalRun.objects.filter(federated_round=federated_round).select_related(
            "federated_round__parent_version"
        )[0]
        update = storage.get(local_run.update_sha256, max_bytes=100_000)

    assert local_run.state == LocalRunState.ACCEPTED
    assert local_run.update_size_bytes == len(update)
    assert len(encode({NAME: steps.change(0)}, "float32", {})) > len(
        encode({NAME: steps.change(0)}, "int4", {})
    )
    assert version.broadcast_size_bytes == len(broadcast_of(version))
    assert version.broadcast_size_bytes != version.size_bytes


def test_an_update_that_travels_otherwise_than_agreed_is_rejected() -> None:
    federated_round: FederatedRound = steps.start(ready_federation(**SMALL))
    claimed = steps.claim(steps.runs_of(federated_round)[0])
    whole = encode(
        {NAME: steps.change(1)}, "float32", _metadata(steps.update_bytes(claimed, steps.change(1)))
    )

    assert steps.submit(claimed, whole).rejection_code == "update_names_differ"


def test_the_norm_bound_is_of_what_arrives() -> None:
    federated_round = steps.start(ready_federation(**SMALL))
    claimed = steps.claim(steps.runs_of(federated_round)[0])

    large = steps.update_bytes(claimed, steps.change(1, scale=1_000))
    assert steps.submit(claimed, large).rejection_code == "update_norm_too_large"


def _metadata(update: bytes) -> dict[str, str]:
    n_header_bytes = int.from_bytes(update[:8], "little")
    metadata: dict[str, str] = json.loads(update[8 : 8 + n_header_bytes])["__metadata__"]
    return metadata
