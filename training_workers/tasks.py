"""The training side's task: one message wakes a worker for one piece of work, which the fair order chooses."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final

import structlog
from celery import shared_task

from federation.models import BaseModel, Evaluation, Federation, LocalRun
from federation.services.claiming import claim_next
from tenants import dispatch, scoping
from tenants.errors import LeaseLost
from tenants.failpoints import FailPoint, reach
from tenants.leases import Leased
from tenants.models import Dataset, TenantOwned
from training_workers import work
from training_workers.attempts import WORKER_NAME, Attempt, perform

log = structlog.get_logger(__name__)

WORK: Final[Mapping[type[Leased], Callable[[Attempt[Any]], None]]] = {
    BaseModel: work.inspect_base_model,
    Dataset: work.validate_dataset,
    Evaluation: work.evaluate,
    Federation: work.prepare_start,
    LocalRun: work.train,
}
"""What is done with each kind of row."""


@shared_task(name=dispatch.WORK)
def work_on_next() -> None:
    """Claim the next piece of work, if any waits, and do it in the scope of the tenant that it belongs to."""
    reach(FailPoint.RECEIVED)
    try:
        with scoping.platform():
            row = claim_next(owner=WORKER_NAME)
    except LeaseLost:  # it was canceled in this very moment; its message was this one
        row = None
    if row is None:
        log.info("nothing_to_claim")  # a message too many
        return
    reach(FailPoint.CLAIMED, type(row).__name__)
    perform(Attempt(row, _scope_of(row)), WORK[type(row)])


def _scope_of(row: Leased) -> Callable[[], AbstractContextManager[None]]:
    return partial(scoping.tenant, row.tenant_id) if isinstance(row, TenantOwned) else scoping.platform
