"""Messages after a commit, while the broker is away."""

import pytest
from django.db import transaction
from kombu.exceptions import OperationalError

from tenants import dispatch


@pytest.mark.django_db(transaction=True)
def test_a_broker_that_is_away_fails_no_commit_and_keeps_back_no_other_message(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[str] = []

    def publish(task_name: str, *_: object) -> None:
        tried.append(task_name)
        raise OperationalError("away")

    monkeypatch.setattr(dispatch, "_publish", publish)
    with transaction.atomic():
        dispatch.send("one", "id", queue="gpu")
        dispatch.send("two", "id", queue="gpu")
    assert tried == ["one", "two"]
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
