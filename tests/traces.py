"""Looking for marked bytes in everything that a running platform keeps, in the forms in which they may lie there."""

import base64
import io
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from redis import Redis

from deploy.embedded.database import DATABASE
from deploy.embedded.postgres import SUPERUSER
from deploy.embedded.privileges import fitting_identity, place_for
from deploy.embedded.secrets import load_or_create
from tests.platform import RunningPlatform


def forms(mark: bytes) -> list[bytes]:
    """The mark as it is, as hexadecimal digits, and as base64 (Celery's bodies) at each of the three alignments."""
    found = [mark, mark.hex().encode(), mark.hex().upper().encode()]
    for n_before in range(3):
        whole = base64.b64encode(b"\0" * n_before + mark)
        # The characters at both ends hold bits of what stands beside the mark.
        found.append(whole[(8 * n_before + 5) // 6 : (8 * (n_before + len(mark))) // 6])
    return found


@dataclass(frozen=True)
class Traces:
    """What a platform has kept: by place, everything there in one piece."""

    places: dict[str, bytes]

    def of(self, marks: Iterable[bytes]) -> set[str]:
        """The places that hold one of the marks in any form."""
        wanted = [form for mark in marks for form in forms(mark)]
        return {place for place, held in self.places.items() if any(form in held for form in wanted)}

    def kinds_of(self, mark: bytes) -> set[str]:
        """The same, by kind of place: the first word."""
        return {place.partition(" ")[0] for place in self.of([mark])}


def traces_of(platform: RunningPlatform) -> Traces:
    """The database as text and as files (write-ahead log included), the broker's keys and files, storage, logs."""
    directory = platform.platform.directory
    places = dict(_dump(platform))
    places |= _broker(platform)
    for path in _files(directory):
        top = path.relative_to(directory).parts[0]
        if top in ("storage", "logs", "valkey", "status.json"):
            places[f"{top} {path.relative_to(directory)}"] = path.read_bytes()
    data = place_for(directory, identity=fitting_identity()) / "postgres"
    places |= {f"postgres {path.relative_to(data)}": path.read_bytes() for path in _files(data)}
    return Traces(places)


def members_of(archive: bytes) -> bytes:
    """Everything that a zip file holds, unpacked."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return b"\n".join(opened.read(name) for name in opened.namelist())


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.rglob("*")) if path.is_file())


def _dump(platform: RunningPlatform) -> Iterator[tuple[str, bytes]]:
    """Every table as text, as a superuser: no policy hides a row."""
    secrets = load_or_create(platform.platform.directory / "secrets.json")
    url = make_conninfo(
        platform.platform.environment["DATABASE_URL"],
        user=SUPERUSER,
        password=secrets.superuser_password,
        dbname=DATABASE,
    )
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        tables = cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        connection.execute("CHECKPOINT")  # what memory holds, too, is in the files now
        for (table,) in tables:
            with cursor.copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(table))) as copy:
                yield f"database {table}", b"".join(bytes(part) for part in copy)


def _broker(platform: RunningPlatform) -> dict[str, bytes]:
    """Every key and its value; sent messages that were taken from it are in its append-only files."""
    with Redis.from_url(platform.platform.environment["BROKER_URL"]) as client:
        return {f"broker {key!r}": key + b"\n" + _value(client, key) for key in client.scan_iter()}


def _value(client: Any, key: bytes) -> bytes:
    kind = client.type(key)
    if kind == b"string":
        return bytes(client.get(key) or b"")
    if kind == b"hash":
        return b"\n".join(part for pair in client.hgetall(key).items() for part in pair)
    readers = {b"list": client.lrange, b"zset": client.zrange}
    # A key that went while we looked is empty, as is its set.
    return b"\n".join(readers[kind](key, 0, -1) if kind in readers else client.smembers(key))
