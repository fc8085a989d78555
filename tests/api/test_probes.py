"""Probes: alive, and ready to serve."""

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.db.utils import OperationalError
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from deploy.celery import app
from federation.models import RoundEvent
from tests.api.problems import problem


def test_a_process_that_answers_is_alive(client: Client) -> None:
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_probe_comes_to_an_address_without_the_proxy(client: Client, settings: Settings, path: str) -> None:
    settings.ALLOWED_HOSTS, settings.SECURE_SSL_REDIRECT = ["prelude.example"], True
    assert client.get(path, headers={"host": "10.1.2.3:8000"}).status_code == 200
    assert client.get("/api/v1/me", headers={"host": "10.1.2.3:8000"}).status_code == 400


@pytest.mark.django_db
def test_a_process_with_all_that_it_needs_is_ready(client: Client) -> None:
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.django_db
def test_a_broker_that_is_away_is_told_within_seconds(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.conf, "broker_url", "redis://127.0.0.1:1/0")
    began_at = timezone.now()
    assert problem(client.get("/readyz"), 503, "not_ready")["failed"] == ["broker"]
    assert (timezone.now() - began_at).total_seconds() < 5


@pytest.mark.django_db
def test_a_migration_that_is_missing_is_told(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    applied = MigrationRecorder.applied_migrations

    def without_the_last(recorder: MigrationRecorder) -> object:
        return {name: row for name, row in applied(recorder).items() if name[0] != "federation"}

    monkeypatch.setattr(MigrationRecorder, "applied_migrations", without_the_last)
    assert problem(client.get("/readyz"), 503, "not_ready")["failed"] == ["migrations"]


@pytest.mark.django_db
def test_a_database_that_is_away_is_told(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(connection, "cursor", refuse)
    assert problem(client.get("/readyz"), 503, "not_ready")["failed"] == ["database", "migrations", "wall"]


@pytest.mark.django_db
def test_a_wall_that_is_open_is_told(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        RoundEvent, "has_shared_rows", False
    )  # as if its policy were one that nobody asked for
    assert problem(client.get("/readyz"), 503, "not_ready")["failed"] == ["wall"]


def test_probes_are_read_only(client: Client) -> None:
    assert client.post("/healthz").status_code == 405
