"""What several tests of this package start from."""

import time

import pytest
from django.contrib.auth.models import User

from tests.tenants.signing_in import Clock, person


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of the whole process."""
    clock = Clock()
    monkeypatch.setattr(time, "time", lambda: clock.now)
    return clock


@pytest.fixture
def ann(db: None) -> User:
    """An operator."""
    return person("ann@example.com", is_staff=True, is_superuser=True)
