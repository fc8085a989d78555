"""A cache in PostgreSQL: all web processes see the same, and a restart forgets nothing.

Django's own `DatabaseCache` keeps pickled values: whoever could write to its table could run code in the web process.
This one keeps JSON, and adds in one statement.
"""

import json
import time
from typing import Any, Final

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.db import connection

_N_FORGOTTEN: Final = 100  # at a write: more than one write adds
_PUT: Final = (
    "INSERT INTO shared_cache (key, value, expires_at) VALUES (%s, %s, to_timestamp(%s))"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at"
)


class SharedCache(BaseCache):
    """Short-lived values that JSON can tell. Every key ends at a time: what is to stay belongs into a model."""

    def __init__(self, _location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def add(
        self, key: str, value: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Set a key that is not there, and say whether it was not."""
        where = " WHERE shared_cache.expires_at <= to_timestamp(%s) RETURNING true"
        return self._put(key, value, timeout, version, where, time.time())

    def set(
        self, key: str, value: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None
    ) -> None:
        """Set a key, whatever it was."""
        self._put(key, value, timeout, version, " RETURNING true")

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        """The value of a key that has not ended."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT value FROM shared_cache WHERE key = %s AND expires_at > to_timestamp(%s)",
                [self.make_and_validate_key(key, version=version), time.time()],
            )
            row = cursor.fetchone()
        return default if row is None else json.loads(row[0])

    def delete(self, key: str, version: int | None = None) -> bool:
        """Forget a key, and say whether it was there."""
        with connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM shared_cache WHERE key = %s", [self.make_and_validate_key(key, version=version)]
            )
            return bool(cursor.rowcount)

    def clear(self) -> None:
        """Forget everything."""
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM shared_cache")

    def _put(
        self, key: str, value: Any, timeout: float | None, version: int | None, ending: str, *more: float
    ) -> bool:
        ends_at = self.get_backend_timeout(timeout)
        if ends_at is None:
            raise ValueError(f"the key {key!r} has no end")
        name = self.make_and_validate_key(key, version=version)
        with connection.cursor() as cursor:
            # Rows that another process is at are left to it: nobody waits, and no circle of waiting closes.
            cursor.execute(
                "DELETE FROM shared_cache WHERE key IN (SELECT key FROM shared_cache"
                " WHERE expires_at <= to_timestamp(%s) LIMIT %s FOR UPDATE SKIP LOCKED)",
                [time.time(), _N_FORGOTTEN],
            )
            cursor.execute(_PUT + ending, [name, json.dumps(value), ends_at, *more])
            return cursor.fetchone() is not None
