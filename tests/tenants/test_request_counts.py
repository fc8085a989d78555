"""Requests are counted in memory and written soon, at the process's end at the latest."""

import os
import subprocess
import sys
import time

import pytest
from django.db import OperationalError, connection

from tenants import scoping
from tenants.models import Tenant, UsageDay
from tenants.services import request_counts
from tenants.services.request_counts import RequestCounts

COUNT_AND_END = """
import os, sys
import deploy.wsgi
from uuid import UUID
from tenants.services.request_counts import REQUESTS
tenant = UUID(sys.argv[1])
REQUESTS.count(tenant)
REQUESTS.count(tenant)
child = os.fork()
REQUESTS.count(tenant)
if child:
    assert os.waitpid(child, 0)[1] == 0
"""


def n_requests(tenant: Tenant) -> int:
    with scoping.platform():
        return sum(UsageDay.objects.filter(tenant=tenant).values_list("n_requests", flat=True))


@pytest.mark.django_db
def test_what_was_counted_is_added_once(
    acme: Tenant, globex: Tenant, counted_requests: RequestCounts
) -> None:
    for tenant in (acme, globex, acme):
        counted_requests.count(tenant.pk)
    counted_requests.write()
    counted_requests.write()
    assert (n_requests(acme), n_requests(globex)) == (2, 1)


@pytest.mark.django_db
def test_what_cannot_be_written_is_kept(acme: Tenant, counted_requests: RequestCounts) -> None:
    counted_requests.count(acme.pk)

    def refuse(*_: object) -> None:
        raise OperationalError("the database is away")

    with connection.execute_wrapper(refuse):
        counted_requests.write()
    assert n_requests(acme) == 0
    counted_requests.write()
    assert n_requests(acme) == 1


@pytest.mark.django_db(transaction=True)
def test_a_thread_writes_by_itself(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_counts, "WRITTEN_EVERY_SECONDS", 0.01)
    counts = RequestCounts()
    for n_counted in (1, 2):
        counts.count(acme.pk)
        until = time.monotonic() + 20
        while n_requests(acme) < n_counted and time.monotonic() < until:
            time.sleep(0.01)
        assert n_requests(acme) == n_counted


@pytest.mark.django_db(transaction=True)
def test_a_process_that_ends_writes_what_is_left_and_a_child_writes_its_own_alone(acme: Tenant) -> None:
    command = [sys.executable, "-c", COUNT_AND_END, str(acme.pk)]
    subprocess.run(command, check=True, timeout=60, env=dict(os.environ))
    assert n_requests(acme) == 4
