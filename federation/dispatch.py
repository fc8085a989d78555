"""The coordinator's messages by name; `tenants.dispatch` sends them."""

from federation.models import FederatedRound, LocalRun
from tenants.dispatch import COORDINATOR_QUEUE, send

CHECK_UPDATE = "federation.check_update"
ADVANCE = "federation.advance"


def check_update(local_run: LocalRun) -> None:
    """An update has been submitted: have it checked."""
    send(CHECK_UPDATE, local_run.public_id, queue=COORDINATOR_QUEUE)


def advance(federated_round: FederatedRound) -> None:
    """Something in the round has ended: have the coordinator look whether its next step is due."""
    send(ADVANCE, federated_round.public_id, queue=COORDINATOR_QUEUE)
