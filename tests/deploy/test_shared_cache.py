"""The cache in PostgreSQL: seen by other connections, ended in time, free of what has ended."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.cache import cache
from django.db import connection

from deploy.shared_cache import SharedCache


def n_rows() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM shared_cache")
        return int(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_of_many_processes_one_adds_a_key_and_all_see_it() -> None:
    def add(number: int) -> bool:
        try:
            return SharedCache("", {}).add("key", number, timeout=60)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as at_once:
        outcomes = list(at_once.map(add, range(8)))
    assert sum(outcomes) == 1
    assert cache.get("key") == outcomes.index(True)


@pytest.mark.django_db
def test_a_key_ends_and_its_row_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    cache.set("short", [1.5], timeout=10)
    cache.set("long", [2.5], timeout=100)
    assert (cache.get("short"), cache.add("short", 0, timeout=10)) == ([1.5], False)
    now += 10
    assert (cache.get("short"), cache.get("long")) == (None, [2.5])
    assert cache.add("other", True, timeout=10)
    assert n_rows() == 2
    assert cache.add("short", 0, timeout=10)


@pytest.mark.django_db
def test_keys_are_set_anew_and_deleted() -> None:
    cache.set("key", 1)
    cache.set("key", 2)
    assert cache.get("key") == 2
    assert (cache.delete("key"), cache.delete("key"), cache.get("key", "none")) == (True, False, "none")
    cache.set("key", 3)
    cache.clear()
    assert n_rows() == 0


@pytest.mark.django_db
def test_nothing_is_kept_for_ever() -> None:
    with pytest.raises(ValueError, match="has no end"):
        cache.set("key", 1, timeout=None)
