"""The platform on one machine, for `python -m deploy.embedded up`, the demo and the end-to-end test."""

import json
import logging
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from deploy.embedded import layout
from deploy.embedded.commands import keep_environment
from deploy.embedded.environment import DIRECTORIES, TEMPORARY, application_environment, inherited
from deploy.embedded.errors import CommandFailed
from deploy.embedded.lock import sole_supervisor
from deploy.embedded.ports import LOOPBACK, HeldPorts
from deploy.embedded.postgres import data_directory
from deploy.embedded.privileges import fitting_identity, place_for
from deploy.embedded.processes import MARKER, kill_marked, tail, wait_until_gone
from deploy.embedded.secrets import load_or_create
from deploy.embedded.servers import Servers, wait_until_ready
from deploy.embedded.supervisor import Supervisor

READY_SECONDS: Final = 120.0
PREFERRED_PORT: Final = 8000

logger = logging.getLogger(__name__)
# The platform is on this machine: no proxy of the environment is asked, which could not reach it or answer for it.
_DIRECTLY: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Platform:
    """PostgreSQL, Valkey and the processes of Prelude over one directory, which keeps their data.

    A context manager: entering returns when `/readyz` answers 200, leaving stops everything. `settings` are
    further environment variables of the application's processes; `test_mode` is PostgreSQL's.

    Raises (on entering): PlatformAlreadyRunning, PortTaken, CommandFailed, ProcessNotReady, and what the
    secrets and the servers raise.
    """

    def __init__(
        self,
        directory: Path,
        *,
        n_gpu_workers: int | None = None,
        port: int | None = None,
        test_mode: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory.resolve()
        self.logs = self.directory / "logs"
        self._n_gpu_workers = n_gpu_workers or layout.default_gpu_workers()
        self._wanted_port = port
        self._test_mode = test_mode
        self._settings = dict(settings or {})
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            self._claim_directory(resources)
            self._start_servers(resources)
            self._prepare_application()
            self._start_application()
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    @property
    def url(self) -> str:
        """Where the web process answers, without a slash at the end."""
        return f"http://{LOOPBACK}:{self._port}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of the application's processes."""
        return {**inherited(), **self._own_environment}

    @property
    def _own_environment(self) -> dict[str, str]:
        own = application_environment(self._servers, directory=self.directory, url=self.url)
        return {**own, **self._settings}

    @property
    def owner_environment(self) -> dict[str, str]:
        """The same for what changes the schema: only this one holds the owner's password."""
        return {**self.environment, "OWNER_DATABASE_URL": self._servers.owner_database_url}

    def pids(self, *names: str) -> list[int]:
        """Process ids by name (`gpu1`) or role (`gpu`), of those that run now."""
        return self._supervisor.pids(*names)

    def stop(self, *names: str) -> None:
        """Stop processes by name or role, servers included, until `start`."""
        self._supervisor.stop(*names)

    def start(self, *names: str) -> None:
        """Start what `stop` stopped."""
        self._supervisor.resume(*names)

    def restart(self, *names: str) -> None:
        """Stop in good order, and start again."""
        self._supervisor.restart(*names)

    def wait_until_ready(self, *, seconds: float = READY_SECONDS) -> None:
        """Return when `/readyz` answers 200.

        Raises: ProcessNotReady.
        """
        wait_until_ready("web", self._problem, log=self._supervisor.log("web"), seconds=seconds)

    def _claim_directory(self, resources: ExitStack) -> None:
        for name in ("", "logs", *DIRECTORIES.values()):
            (self.directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        resources.enter_context(sole_supervisor(self.directory))
        self._end_leftovers()
        self._empty_temporary()
        resources.callback(self._end_leftovers)
        journal = logging.FileHandler(self.logs / "supervisor.log")
        journal.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        resources.callback(journal.close)
        package_logger = logging.getLogger("deploy.embedded")
        package_logger.addHandler(journal)
        resources.callback(package_logger.removeHandler, journal)
        self._ports = resources.enter_context(HeldPorts())
        self._port = self._choose_port()

    def _choose_port(self) -> int:
        if self._wanted_port is not None:
            return self._ports.required("web", self._wanted_port, directory=self.directory)
        return self._ports.remembered("web", directory=self.directory, preferred=PREFERRED_PORT)

    def _end_leftovers(self) -> None:
        left = kill_marked(self.directory)
        if left:
            logger.warning("Killed processes that were left over: %s", left)
            wait_until_gone(left, seconds=5.0)

    def _empty_temporary(self) -> None:
        """Of what was killed: nothing that uses the place is alive."""
        shutil.rmtree(self.directory / TEMPORARY)
        (self.directory / TEMPORARY).mkdir(mode=0o700)

    def _start_servers(self, resources: ExitStack) -> None:
        data = data_directory(place_for(self.directory, identity=fitting_identity()))
        secrets = load_or_create(self.directory / "secrets.json", data=data)
        self._supervisor = resources.enter_context(Supervisor(logs=self.logs, on_change=self._write_status))
        self._servers = Servers.start(
            self.directory,
            supervisor=self._supervisor,
            ports=self._ports,
            secrets=secrets,
            test_mode=self._test_mode,
        )

    def _prepare_application(self) -> None:
        with ThreadPoolExecutor() as side_by_side:
            migrated = side_by_side.submit(self._manage, "migrate_once", environment=self.owner_environment)
            self._manage("collectstatic", "--no-input", environment=self.environment)
            migrated.result()

    def _start_application(self) -> None:
        keep_environment(self.directory, self._own_environment)
        environment = {**self.environment, MARKER: str(self.directory)}
        specifications = [
            layout.web(environment, port=self._port),
            layout.coordinator(environment),
            *layout.gpu_workers(environment, n_workers=self._n_gpu_workers),
            layout.ticker(environment),
            layout.announcer(environment),
        ]
        for specification in specifications:
            self._supervisor.start(specification)
        self.wait_until_ready()

    def _manage(self, command: str, *options: str, environment: Mapping[str, str]) -> None:
        log = self.logs / f"{command}.log"
        with log.open("wb") as output:
            done = subprocess.run(  # noqa: S603 - our own words
                [*layout.MANAGE, command, *options],
                cwd=layout.PROJECT,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode != 0:
            raise CommandFailed(name=f"manage.py {command}", exit_status=done.returncode, log=tail(log))

    def _problem(self) -> str | None:
        try:
            with _DIRECTLY.open(f"{self.url}/readyz", timeout=5):
                return None
        except OSError as error:
            return str(error)

    def _write_status(self) -> None:
        """Tell other programs what runs (no secrets): `status.json`, replaced in one step."""
        status = {"supervisor": os.getpid(), "url": self.url, "processes": self._supervisor.report()}
        draft = self.directory / "status.json.draft"
        draft.write_text(json.dumps(status, indent=2) + "\n")
        draft.replace(self.directory / "status.json")
