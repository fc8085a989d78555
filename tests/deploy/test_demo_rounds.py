"""The demo's rounds: those that it begins, and one that an interrupted run left open."""

from collections.abc import Iterator
from typing import Any, cast

import pytest

from deploy.demo.client import Api
from deploy.demo.errors import RoundNotFinished
from deploy.demo.rounds import Moment, run_rounds
from deploy.demo.setting_up import Arrangement


class Rounds:
    """A platform whose rounds end in these states, and which has some open already."""

    def __init__(self, *states: str, n_open: int = 0) -> None:
        self._states = states
        self._rounds = [{"id": str(number), "state": "training"} for number in range(n_open)]

    @property
    def n_rounds(self) -> int:
        """All that there have been."""
        return len(self._rounds)

    def list(self, path: str, **_filters: str) -> Iterator[dict[str, Any]]:
        return iter(self._rounds if path.endswith("/rounds") else [])

    def get(self, path: str) -> dict[str, Any]:
        number = int(path.rpartition("/")[2])
        state = self._states[number]
        return {"number": number, "state": state, "reason": "", "candidate_version": None}

    def post(self, _path: str, _body: dict[str, Any]) -> dict[str, Any]:
        self._rounds.append({"id": str(len(self._rounds)), "state": "open"})
        return self._rounds[-1]


class Nobody:
    """A watcher who does not look."""

    def show(self, moment: Moment) -> None:
        """See nothing."""


def run(rounds: Rounds, n_rounds: int) -> None:
    arrangement = Arrangement(cast("Api", rounds), base_model={}, tenants=[], federation={"id": "fed"})
    run_rounds(arrangement, n_rounds, Nobody())


@pytest.mark.parametrize(
    ("left_open", "n_begun"),
    [("published", 1), ("failed", 2)],  # its deadline passed while nothing ran
)
def test_a_round_that_was_left_open_ends_first_and_counts_if_it_succeeds(
    left_open: str, n_begun: int
) -> None:
    rounds = Rounds(left_open, "published", "kept", n_open=1)
    run(rounds, 2)
    assert rounds.n_rounds == 1 + n_begun


def test_a_round_of_its_own_that_fails_ends_the_demo() -> None:
    with pytest.raises(RoundNotFinished, match="Round 1 ended failed"):
        run(Rounds("published", "failed"), 3)
