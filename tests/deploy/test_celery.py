"""What Celery does to the database's connection around a task."""

import tempfile
from pathlib import Path

import pytest
from celery.fixups.django import DjangoWorkerFixup  # type: ignore[attr-defined]  # its stubs lack it
from celery.signals import task_prerun, worker_ready
from django.db import connection

from deploy.celery import app
from tenants import staging

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_worker_removes_at_its_start_what_killed_ones_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / f"{staging.PREFIX}left").mkdir()
    worker_ready.send(sender=None)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_keeps_its_connection_from_one_task_to_the_next() -> None:
    connection.ensure_connection()
    opened = connection.connection
    DjangoWorkerFixup(app).close_database()
    assert connection.connection is opened


def test_a_connection_that_was_lost_is_opened_anew_for_the_next_task() -> None:
    connection.ensure_connection()
    assert connection.connection is not None
    connection.connection.close()
    task_prerun.send(sender=None)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
