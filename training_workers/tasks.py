"""The training side's task: a message wakes a worker, which does what the fair order gives it until nothing waits."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from celery import shared_task

from federation.models import BaseModel, Evaluation, Federation, LocalRun, PersonalPrefix
from federation.services.claiming import claim_next
from tenants import dispatch
from tenants.failpoints import FailPoint, reach
from tenants.leases import Leased, holder
from tenants.models import Dataset
from training_workers import work
from training_workers.attempts import Attempt, perform

log = structlog.get_logger(__name__)

WORK: Final[Mapping[type[Leased], Callable[[Attempt[Any]], None]]] = {
    BaseModel: work.inspect_base_model,
    Dataset: work.validate_dataset,
    Evaluation: work.evaluate,
    Federation: work.prepare_start,
    LocalRun: work.train,
    PersonalPrefix: work.grow,
}
"""What is done with each kind of row."""


TURN_SECONDS: Final = (
    2.0  # then the next message: a worker that is to stop, or lost its broker, learns it there
)


@shared_task(name=dispatch.WORK)
def work_on_next() -> None:
    """Do the work that waits, piece by piece, each in the scope of the tenant that it belongs to."""
    reach(FailPoint.RECEIVED)
    over_at = time.monotonic() + TURN_SECONDS
    row = claim_next(owner=holder(), wakes_next=True)
    if row is None:
        log.info("nothing_to_claim")  # a message too many
    while row is not None:
        reach(FailPoint.CLAIMED, type(row).__name__)
        perform(Attempt(row), WORK[type(row)])
        if time.monotonic() >= over_at:
            dispatch.wake_any()
            return
        row = claim_next(owner=holder())
