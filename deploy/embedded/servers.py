"""The two servers that Prelude needs, started under a supervisor and made ready for it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from deploy.embedded.database import APP, DATABASE, OWNER, set_up_database
from deploy.embedded.errors import ProcessNotReady
from deploy.embedded.ports import HeldPorts
from deploy.embedded.postgres import PostgresServer, forget_settings
from deploy.embedded.processes import tail
from deploy.embedded.secrets import PlatformSecrets
from deploy.embedded.supervisor import Supervisor
from deploy.embedded.valkey import ValkeyServer

READY_SECONDS: Final = 30.0
LOOK_EVERY_SECONDS: Final = 0.05


def wait_until_ready(name: str, problem: Callable[[], str | None], *, log: Path, seconds: float) -> None:
    """Return when the process has no problem any more.

    Raises: ProcessNotReady with the last problem and the end of the process's log.
    """
    deadline = time.monotonic() + seconds
    while (present := problem()) is not None:
        if time.monotonic() > deadline:
            raise ProcessNotReady(name=name, waited_seconds=seconds, problem=present, log=tail(log))
        time.sleep(LOOK_EVERY_SECONDS)


@dataclass(frozen=True, kw_only=True)
class Servers:
    """A PostgreSQL with Prelude's database and roles, and a Valkey."""

    postgres: PostgresServer
    valkey: ValkeyServer
    secrets: PlatformSecrets = field(repr=False)

    @classmethod
    def start(
        cls,
        directory: Path,
        *,
        supervisor: Supervisor,
        ports: HeldPorts,
        secrets: PlatformSecrets,
        test_mode: bool = False,
    ) -> Self:
        """Start both over the directory's data, and return when both answer and the roles are set up."""
        forget_settings()
        postgres = PostgresServer.inside(
            directory, ports=ports, password=secrets.superuser_password, test_mode=test_mode
        )
        valkey = ValkeyServer.inside(directory, ports=ports, password=secrets.broker_password)
        postgres.create_data()
        for server in (postgres, valkey):
            supervisor.start(server.specification())
        for server in (postgres, valkey):
            log = supervisor.log(server.name)
            wait_until_ready(server.name, server.problem, log=log, seconds=READY_SECONDS)
        set_up_database(
            postgres.superuser_url, owner_password=secrets.owner_password, app_password=secrets.app_password
        )
        return cls(postgres=postgres, valkey=valkey, secrets=secrets)

    @property
    def database_url(self) -> str:
        """For the application's role."""
        return self.postgres.url(user=APP, password=self.secrets.app_password, database=DATABASE)

    @property
    def owner_database_url(self) -> str:
        """For the role that migrates."""
        return self.postgres.url(user=OWNER, password=self.secrets.owner_password, database=DATABASE)

    @property
    def broker_url(self) -> str:
        """For Celery."""
        return self.valkey.url
