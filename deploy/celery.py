"""The Celery application: it wakes processes up, PostgreSQL knows what is to be done."""

import gc
import os
import sys

from celery import Celery
from celery.signals import setup_logging, task_prerun, worker_ready

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deploy.settings")

from django.conf import settings  # the line above tells it where to look
from django.db import close_old_connections

from tenants import staging

app = Celery("prelude", set_as_current=True)
app.conf.update(
    broker_url=settings.BROKER_URL.get_secret_value(),
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "visibility_timeout": 3_600,
        "unacked_restore_interval": 10,
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
    },
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    task_publish_retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0.2},
    worker_prefetch_multiplier=1,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_hijack_root_logger=False,
    task_create_missing_queues=True,
    # Celery would close the database's connection before and after each task; opening one costs more than most tasks.
    CELERY_DB_REUSE_MAX=sys.maxsize,
)


@task_prerun.connect  # as Django does for each request: one that is too old, or was lost, is opened anew
def _renew_connection(**_: object) -> None:
    close_old_connections()


@worker_ready.connect  # as the web process does: full collections would walk through all that is loaded
def _spare_what_stays(**_: object) -> None:
    gc.collect()
    gc.freeze()


@worker_ready.connect  # one that was killed could not do it itself
def _remove_what_was_left(**_: object) -> None:
    staging.sweep()


@setup_logging.connect  # Django's LOGGING holds for workers too
def _keep_logging(**_: object) -> None:
    import logging.config

    logging.config.dictConfig(settings.LOGGING)
