"""The only place that sends messages. A message is a wake-up that carries ids; PostgreSQL holds the truth."""

from collections.abc import Mapping, Sequence
from typing import Final

import structlog
from celery import current_app
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from kombu.exceptions import OperationalError

from tenants import failpoints
from tenants.failpoints import FailPoint, reach
from tenants.leases import Leased

_log = structlog.get_logger(__name__)
PING_SECONDS = 2
WORK = "training_workers.work"
GPU_QUEUE = "gpu"
COORDINATOR_QUEUE = "coordinator"
TOLD: Final[Mapping[str, object]] = {"sent_at": Now(), "n_sent": 1}
"""Fields of rows that are made in the transaction in which `wake_workers` tells of them."""

WOKEN_AT_ONCE: Final = 2


def send(task_name: str, *ids: str, queue: str, about: str = "", delay_seconds: float | None = None) -> None:
    """Send after the commit. A broker that is away costs nothing but time: the reconciler sends again what is due.

    `about` tells fail points what a message is about whose name does not.
    """

    # A function with a name: Django logs that of a robust callback which fails, and a partial has none.
    def pass_on() -> None:
        reach(FailPoint.COMMITTED, about or task_name)
        _publish(task_name, list(ids), queue, delay_seconds)
        reach(FailPoint.SENT, about or task_name)

    transaction.on_commit(pass_on, robust=True)


def wake_worker(row: Leased) -> None:
    """Tell the training side that work waits, and note when for `row`, so that the reconciler knows what to repeat.

    The message names no row: which one is next is decided when a worker claims.
    """
    type(row)._base_manager.filter(pk=row.pk).update(sent_at=Now(), n_sent=F("n_sent") + 1)
    send(WORK, queue=GPU_QUEUE, about=type(row).__name__)


def wake_workers(rows: Sequence[Leased]) -> None:
    """The same for many new rows of one kind, which were made with `TOLD`.

    A worker that claims one of many wakes the next worker: a few messages are enough, and two workers begin at once.
    """
    for row in rows[:WOKEN_AT_ONCE]:
        send(WORK, queue=GPU_QUEUE, about=type(row).__name__)


def wake_any() -> None:
    """Tell the training side that some waiting work may begin which could not before."""
    send(WORK, queue=GPU_QUEUE)


def broker_answers() -> bool:
    """Whether the broker answers within seconds; a reason why not goes to the log."""
    patience = {"socket_timeout": PING_SECONDS, "socket_connect_timeout": PING_SECONDS}
    try:
        with current_app.connection_for_write(transport_options=patience) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
    except OperationalError as error:
        _log.warning("broker_away", error=str(error))
        return False
    return True


def _publish(task_name: str, ids: list[str], queue: str, delay_seconds: float | None) -> None:
    for seconds in failpoints.delays(delay_seconds):
        current_app.send_task(task_name, args=ids, queue=queue, countdown=seconds)
