"""The coordinator's message by name; `tenants.dispatch` sends it."""

from typing import Final

from federation.models import FederatedRound
from tenants.dispatch import COORDINATOR_QUEUE, send

ADVANCE: Final = "federation.advance"


def advance(federated_round: FederatedRound, *, about: str = "", delay_seconds: float | None = None) -> None:
    """Something in the round has ended: have the coordinator look whether its next step is due.

    `about` tells fail points what that was.
    """
    send(
        ADVANCE,
        federated_round.public_id,
        queue=COORDINATOR_QUEUE,
        about=about,
        delay_seconds=delay_seconds,
    )
