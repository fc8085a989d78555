"""Opening rounds and following them to their end."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from deploy.demo.client import Body
from deploy.demo.errors import RoundNotFinished, WaitedTooLong
from deploy.demo.setting_up import Arrangement

ROUND_SECONDS: Final = 1_200.0
_POLL_SECONDS: Final = 1.0
_FINISHED: Final = ("published", "kept")
_BROKEN: Final = ("failed", "canceled")


@dataclass(frozen=True)
class Moment:
    """A round as it is now, with each tenant's local run and evaluation of the candidate, by slug."""

    federated_round: Body
    runs: Mapping[str, Body]
    evaluations: Mapping[str, Body]


class RoundWatcher(Protocol):
    """Somebody who is shown a round while it goes."""

    def show(self, moment: Moment) -> None:
        """Take the round as it is now."""


def run_rounds(arrangement: Arrangement, n_rounds: int, watcher: RoundWatcher) -> None:
    """Run rounds one after the other; one that an interrupted run left open is finished first and counts.

    Raises:
        RoundNotFinished: a round failed or was canceled.
        WaitedTooLong: a round did not end.
    """
    rounds = f"/federations/{arrangement.federation['id']}/rounds"
    live = [found for found in arrangement.operator.list(rounds) if not _is_over(found)]
    for _ in range(n_rounds):
        federated_round = live.pop() if live else arrangement.operator.post(rounds, {})
        follow_round(arrangement, federated_round["id"], watcher)


def follow_round(arrangement: Arrangement, round_id: str, watcher: RoundWatcher) -> None:
    """Show a round to the watcher until it is over."""
    started = time.monotonic()
    while True:
        moment = _look(arrangement, round_id)
        watcher.show(moment)
        federated_round, waited = moment.federated_round, time.monotonic() - started
        state = federated_round["state"]
        if state in _BROKEN:
            raise RoundNotFinished(
                number=federated_round["number"], state=state, reason=federated_round["reason"]
            )
        if state in _FINISHED:
            return
        if waited > ROUND_SECONDS:
            raise WaitedTooLong(path=f"/rounds/{round_id}", state=state, waited_seconds=waited)
        time.sleep(_POLL_SECONDS)


def _look(arrangement: Arrangement, round_id: str) -> Moment:
    """Read a round, its local runs, and the scores of its candidate once there is one."""
    api, slugs = arrangement.operator, {tenant.id: tenant.slug for tenant in arrangement.tenants}
    federated_round = api.get(f"/rounds/{round_id}")
    candidate = federated_round["candidate_version"]
    evaluations = api.list("/evaluations", version=candidate) if candidate else ()
    return Moment(
        federated_round=federated_round,
        runs={slugs[run["tenant"]]: run for run in api.list("/local-runs", round=round_id)},
        evaluations={slugs[found["tenant"]]: found for found in evaluations},
    )


def _is_over(federated_round: Body) -> bool:
    return federated_round["state"] in (*_FINISHED, *_BROKEN)
