"""Opening rounds and following them to their end."""

import time
from typing import Final, Protocol

from deploy.demo.client import Api, Body
from deploy.demo.errors import RoundNotFinished, WaitedTooLong
from deploy.demo.setting_up import Arrangement

ROUND_SECONDS: Final = 1_200.0
_POLL_SECONDS: Final = 0.5
_FINISHED: Final = ("published", "kept")
_BROKEN: Final = ("failed", "canceled")


class RoundWatcher(Protocol):
    """Somebody who is shown a round while it goes."""

    def show_round(self, federated_round: Body, runs: dict[str, Body]) -> None:
        """Take the round and its local runs, by the tenants' slugs, as they are now."""


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


def follow_round(arrangement: Arrangement, round_id: str, watcher: RoundWatcher) -> Body:
    """Show a round to the watcher until it is over, and return it."""
    slugs = {tenant.id: tenant.slug for tenant in arrangement.tenants}
    started = time.monotonic()
    while True:
        federated_round, runs = _read_round(arrangement.operator, round_id)
        watcher.show_round(federated_round, {slugs[run["tenant"]]: run for run in runs})
        if federated_round["state"] in _BROKEN:
            raise RoundNotFinished(
                number=federated_round["number"],
                state=federated_round["state"],
                reason=federated_round["reason"],
            )
        if _is_over(federated_round):
            return federated_round
        waited = time.monotonic() - started
        if waited > ROUND_SECONDS:
            raise WaitedTooLong(
                path=f"/rounds/{round_id}", state=federated_round["state"], waited_seconds=waited
            )
        time.sleep(_POLL_SECONDS)


def _read_round(operator: Api, round_id: str) -> tuple[Body, list[Body]]:
    return operator.get(f"/rounds/{round_id}"), list(operator.list("/local-runs", round=round_id))


def _is_over(federated_round: Body) -> bool:
    return federated_round["state"] in (*_FINISHED, *_BROKEN)
