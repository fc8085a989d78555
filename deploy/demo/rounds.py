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
    """Run rounds one after the other; one that an interrupted run left open is ended first, and counts if it succeeds.

    Its deadline may have passed while nothing ran.

    Raises:
        RoundNotFinished: a round that was begun here failed or was canceled.
        WaitedTooLong: a round did not end.
    """
    rounds = f"/federations/{arrangement.federation['id']}/rounds"
    live = [found["id"] for found in arrangement.operator.list(rounds) if not _is_over(found)]
    ended = [follow_round(arrangement, round_id, watcher) for round_id in live[:n_rounds]]
    for _ in range(n_rounds - sum(found["state"] in _FINISHED for found in ended)):
        federated_round = arrangement.operator.post(rounds, {})
        federated_round = follow_round(arrangement, federated_round["id"], watcher)
        if federated_round["state"] in _BROKEN:
            raise RoundNotFinished(
                number=federated_round["number"],
                state=federated_round["state"],
                reason=federated_round["reason"],
            )


def follow_round(arrangement: Arrangement, round_id: str, watcher: RoundWatcher) -> Body:
    """Show a round to the watcher until it is over; what it then is.

    Raises:
        WaitedTooLong: it did not end.
    """
    started = time.monotonic()
    while True:
        moment = _look(arrangement, round_id)
        watcher.show(moment)
        federated_round, waited = moment.federated_round, time.monotonic() - started
        if _is_over(federated_round):
            return federated_round
        if waited > ROUND_SECONDS:
            raise WaitedTooLong(
                path=f"/rounds/{round_id}", state=federated_round["state"], waited_seconds=waited
            )
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
