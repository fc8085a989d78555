"""Looks after a commit: who ends a piece of a round's work sends the coordinator a message only where one is due.

Of the many pieces that end, one has to be told of: the last of its kind, or the first update of those that wait to be
checked. Which one that is shows after the commit alone. It is one statement, in a message of its own. Of several that
end at the same moment each may find itself the last. Of local runs one tells, by the round's row: it would be judged
twice. A score too many costs a look.
"""

from typing import Final

from django.db import connection, transaction

from federation import dispatch as coordinator
from federation.models import Evaluation, FederatedRound, LocalRun
from tenants import scoping
from tenants.failpoints import SCORED, SUBMITTED

GATHER_SECONDS: Final = 1.0  # in which further updates may come in that are checked with the first one

# Of updates that wait to be checked the first one's message stands for all: whoever checks looks again once the
# verdicts are committed, until it finds none, so that what was committed before that look is found by it, and what was
# committed later found no older one that waited.
_AFTER_RUN: Final = "SELECT is_over, is_first_to_check FROM federation_look_after_run(%s, %s)"
_AFTER_SCORE: Final = "SELECT federation_look_after_score(%s)"


def after_run(local_run: LocalRun) -> None:
    """Once this is committed: have the round go on if its training is over, or its updates be checked soon."""

    def look() -> None:
        federated_round = FederatedRound(pk=local_run.federated_round_id)
        [(is_over, is_first)] = scoping.ask_platform(_AFTER_RUN, [local_run.pk, federated_round.pk])
        if is_over:
            coordinator.advance(federated_round, about=SUBMITTED)
        elif is_first:
            coordinator.advance(federated_round, about=SUBMITTED, delay_seconds=GATHER_SECONDS)

    transaction.on_commit(look, robust=True)


def is_scored(federated_round: FederatedRound) -> bool:
    """Whether a round that is being scored waits for no score any more; needs the platform's scope."""
    with connection.cursor() as cursor:
        cursor.execute(_AFTER_SCORE, [federated_round.candidate_version_id])
        return (federated_round.pk,) in cursor.fetchall()


def after_score(evaluation: Evaluation) -> None:
    """Once this is committed: let the gate decide when this was the last score that it waits for."""

    def look() -> None:
        for (round_id,) in scoping.ask_platform(_AFTER_SCORE, [evaluation.version_id]):
            coordinator.advance(FederatedRound(pk=round_id), about=SCORED)

    if evaluation.version_id is not None:
        transaction.on_commit(look, robust=True)
