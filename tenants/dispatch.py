"""The only place that sends messages. A message is a wake-up that carries ids; PostgreSQL holds the truth."""

from functools import partial

from celery import current_app
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from tenants.leases import Leased

GPU_QUEUE = "gpu"
COORDINATOR_QUEUE = "coordinator"


def send(task_name: str, *ids: str, queue: str) -> None:
    """Send after the commit. A broker that is away costs nothing but time: the reconciler sends again what is due."""
    transaction.on_commit(partial(_publish, task_name, list(ids), queue), robust=True)


def wake_worker(row: Leased) -> None:
    """Tell the training side that `row` waits, and note when, so that the reconciler knows what to repeat."""
    type(row)._base_manager.filter(pk=row.pk).update(sent_at=Now(), n_sent=F("n_sent") + 1)
    send(row.task_name, *row.message(), queue=GPU_QUEUE)


def _publish(task_name: str, ids: list[str], queue: str) -> None:
    current_app.send_task(task_name, args=ids, queue=queue)
