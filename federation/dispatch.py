"""The coordinator's messages by name; `tenants.dispatch` sends them."""

from typing import Final

from federation.models import Campaign, FederatedRound
from tenants.dispatch import COORDINATOR_QUEUE, send

ADVANCE: Final = "federation.advance"
ADVANCE_CAMPAIGN: Final = "federation.advance_campaign"


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


def advance_campaign(campaign: Campaign) -> None:
    """A round of the campaign has ended: have the coordinator open the next one, or end the campaign."""
    send(ADVANCE_CAMPAIGN, campaign.public_id, queue=COORDINATOR_QUEUE)
