"""A PgBouncer in transaction mode before the tests' PostgreSQL, as a supervised process."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from deploy.embedded.ports import LOOPBACK, HeldPorts
from deploy.embedded.privileges import NOBODY, fitting_identity, place_for
from deploy.embedded.processes import Identity, ProcessSpecification
from deploy.embedded.servers import wait_until_ready
from deploy.embedded.supervisor import Supervisor

N_SERVER_CONNECTIONS = 2
SEARCHED = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


@dataclass(frozen=True)
class Pooler:
    """Django's description of the same database, through the pooler."""

    database: dict[str, Any]

    def problem(self) -> str | None:
        """Why it cannot be used yet; None when the application's role can log in through it."""
        try:
            psycopg.connect(
                host=LOOPBACK,
                port=self.database["PORT"],
                dbname=self.database["NAME"],
                user=self.database["USER"],
                password=self.database["PASSWORD"],
            ).close()
        except psycopg.OperationalError as error:
            return str(error)
        return None


@contextmanager
def running_pooler(database: dict[str, Any], *, directory: Path) -> Iterator[Pooler]:
    """A PgBouncer for as long as the block lasts, with two connections to PostgreSQL for all its clients."""
    program = shutil.which("pgbouncer", path=SEARCHED)
    assert program is not None, "there is no pgbouncer; deploy/scripts/pgbouncer.sh installs it"
    identity = fitting_identity()  # it refuses root, as PostgreSQL does
    place = place_for(directory, identity=identity)
    with HeldPorts() as ports, Supervisor(logs=directory / "logs") as supervisor:
        pooler = Pooler({**database, "HOST": LOOPBACK, "PORT": str(ports.free())})
        configuration = _write(place, identity, pooler=pooler, behind=database)
        specification = ProcessSpecification(
            name="pgbouncer",
            role="pgbouncer",
            command=(program, str(configuration)),
            working_directory=Path("/"),
            identity=identity,
        )
        supervisor.start(specification)
        wait_until_ready("pgbouncer", pooler.problem, log=supervisor.log("pgbouncer"), seconds=20)
        yield pooler
    if identity is Identity.NOBODY:
        shutil.rmtree(place)


def _write(place: Path, identity: Identity, *, pooler: Pooler, behind: dict[str, Any]) -> Path:
    """Its two files, readable to it alone: one holds the password with which it logs in and lets in."""
    users, configuration = place / "users.txt", place / "pgbouncer.ini"
    password = behind["PASSWORD"].replace('"', '""')
    lines = [
        "[databases]",
        f"{behind['NAME']} = host={behind['HOST']} port={behind['PORT']}",
        "[pgbouncer]",
        f"listen_addr = {LOOPBACK}",
        f"listen_port = {pooler.database['PORT']}",
        "unix_socket_dir =",
        "auth_type = scram-sha-256",
        f"auth_file = {users}",
        "pool_mode = transaction",
        f"default_pool_size = {N_SERVER_CONNECTIONS}",
    ]
    for path, text in ((users, f'"{behind["USER"]}" "{password}"'), (configuration, "\n".join(lines))):
        path.touch(mode=0o600)
        path.write_text(text + "\n")
        if identity is Identity.NOBODY:
            shutil.chown(path, user=NOBODY)
    return configuration
