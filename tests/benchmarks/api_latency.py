"""How long the API takes against bare Django views that give the same rows, on the same server in the same run.

python -m tests.benchmarks.api_latency [REQUESTS_PER_BLOCK]
"""

import base64
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

import psycopg

from deploy.embedded import layout
from deploy.embedded.ports import LOOPBACK, HeldPorts
from tests.benchmarks.load import Answer, Block, Request
from tests.servers import Servers, start_servers

MOST_TIMES_BARE: Final = 1.5  # of the median
N_REPEATS: Final = 6
REQUESTS_PER_BLOCK: Final = 320
N_COMPARED: Final = 5  # requests of each endpoint whose bodies are compared
MAKE_ROWS: Final = "from tests.benchmarks.api_rows import make; make({path!r})"


@dataclass
class Side:
    """All answers to the requests of one endpoint, by the API or by the bare view."""

    answers: list[Answer] = field(default_factory=list)

    def milliseconds(self, part: float) -> float:
        """The latency that this part of the answers keeps within."""
        ordered = sorted(answer.seconds for answer in self.answers)
        return 1_000 * ordered[int(part * (len(ordered) - 1))]

    @property
    def n_failed(self) -> int:
        """Answers other than 2xx."""
        return sum(not 200 <= answer.status < 300 for answer in self.answers)


@dataclass
class Endpoint:
    """Both sides of one endpoint."""

    name: str
    api: Side = field(default_factory=Side)
    bare: Side = field(default_factory=Side)

    @property
    def times_bare(self) -> float:
        """The API's median latency in those of the bare view."""
        return self.api.milliseconds(0.5) / self.bare.milliseconds(0.5)

    @property
    def is_good(self) -> bool:
        """Quick enough, and every answer was one."""
        return self.times_bare <= MOST_TIMES_BARE and not self.api.n_failed + self.bare.n_failed


@contextmanager
def served(directory: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The web process as `make up` starts it, over a full database; gives its port and what `api_rows` wrote."""
    servers = start_servers(directory / "s")
    try:
        environment = environment_of(servers, directory)
        manage(environment, "migrate", "--database", "owner", "--verbosity", "0")
        written = directory / "requests.json"
        manage(environment, "shell", "--command", MAKE_ROWS.format(path=str(written)))
        with psycopg.connect(servers.owner_database_url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
        with web(environment, log=directory / "web.log") as port:
            yield port, json.loads(written.read_text())
    finally:
        servers.stop()


def environment_of(servers: Servers, directory: Path) -> dict[str, str]:
    """What the platform's processes read, with the benchmark's settings."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.benchmarks.api_settings",
        "DATABASE_URL": servers.database_url,
        "OWNER_DATABASE_URL": servers.owner_database_url,
        "BROKER_URL": servers.broker_url,
        "PRELUDE_SECRET_KEY": secrets.token_urlsafe(48),
        "PRELUDE_KEY_PEPPER": secrets.token_urlsafe(48),
        "PRELUDE_MASTER_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "PRELUDE_STORAGE_ROOT": str(directory / "storage"),
        "PRELUDE_BASE_MODELS_ROOT": str(directory / "base_models"),
        "PRELUDE_ALLOWED_HOSTS": LOOPBACK,
        "PRELUDE_HTTPS_ONLY": "false",
    }


def manage(environment: Mapping[str, str], *words: str) -> None:
    """Run a command of manage.py to its end."""
    subprocess.run([*layout.MANAGE, *words], env=environment, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def web(environment: Mapping[str, str], *, log: Path) -> Iterator[int]:
    """The web process; gives its port once it answers."""
    with HeldPorts() as ports:
        port = ports.free()
        with log.open("wb") as output:
            process = subprocess.Popen(
                layout.web(environment, port=port).command,
                env=environment,
                cwd=layout.PROJECT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until_ready(port, log)
            yield port
        finally:
            process.terminate()
            process.wait()


def wait_until_ready(port: int, log: Path, *, seconds: float = 60) -> None:
    """Return when the web process answers that it is ready."""
    give_up_at = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(f"http://{LOOPBACK}:{port}/readyz", timeout=5).close()
        except OSError:
            assert time.monotonic() < give_up_at, log.read_text()
            time.sleep(0.1)
        else:
            return


def fetch(port: int, path: str, key: str) -> Any:
    """The JSON answer to one request."""
    asked = urllib.request.Request(
        f"http://{LOOPBACK}:{port}{path}", headers={"Authorization": f"Bearer {key}"}
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.load(answer)


def compare_bodies(port: int, requests: list[Request]) -> None:
    """Both sides answer the same, but for the links between pages."""
    for path, bare_path, key in requests[:N_COMPARED]:
        found = fetch(port, path, key)
        links = {name: found.pop(name) for name in ("next", "previous") if name in found}
        assert found == fetch(port, bare_path, key), (path, links)


def measure(port: int, asked: dict[str, list[Request]], n_requests: int) -> list[Endpoint]:
    """The API's blocks and the bare views' by turns; the first turn is only for warming up."""
    draw, plan, blocks = Random(2), [], []
    endpoints = [Endpoint(name) for name in asked]
    for turn in range(N_REPEATS + 1):
        for endpoint in endpoints:
            chosen = draw.choices(asked[endpoint.name], k=n_requests)
            api = (endpoint.api, [(path, key) for path, _, key in chosen])
            bare = (endpoint.bare, [(bare_path, key) for _, bare_path, key in chosen])
            for side, block in (api, bare) if turn % 2 else (bare, api):
                plan.append(side if turn else Side())
                blocks.append(block)
    client = [sys.executable, "-m", "tests.benchmarks.load", str(port)]
    done = subprocess.run(client, input=json.dumps(blocks), check=True, stdout=subprocess.PIPE, text=True)
    sent = [Block(*one) for one in json.loads(done.stdout)]
    for side, answered in zip(plan, sent, strict=True):
        side.answers += [Answer(*answer) for answer in answered.answers]
    share = sum(block.client_seconds for block in sent) / sum(block.wall_seconds for block in sent)
    print(f"The client took {share:.0%} of a processor.")
    return endpoints


def report(endpoints: list[Endpoint]) -> None:
    """A line for each endpoint."""
    print("| endpoint | API ms: median, 95 % | bare ms: median, 95 % | times bare | answers | not 2xx |")
    print("|---|---|---|---|---|---|")
    for one in endpoints:
        sides = " | ".join(
            f"{side.milliseconds(0.5):.1f}, {side.milliseconds(0.95):.1f}" for side in (one.api, one.bare)
        )
        n_answers, n_failed = len(one.api.answers), one.api.n_failed + one.bare.n_failed
        print(f"| {one.name} | {sides} | {one.times_bare:.2f} | 2 x {n_answers} | {n_failed} |")


def main() -> int:
    """Set up, compare, measure; 1 where an endpoint is too slow or an answer was none."""
    n_requests = int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS_PER_BLOCK
    with tempfile.TemporaryDirectory(prefix="prl") as directory, served(Path(directory)) as (port, written):
        asked = {name: [Request(*one) for one in found] for name, found in written["requests"].items()}
        print(f"{written['n_rows']} rows of {written['n_tenants']} tenants.", flush=True)
        for requests in asked.values():
            compare_bodies(port, requests)
        endpoints = measure(port, asked, n_requests)
    report(endpoints)
    return 0 if all(one.is_good for one in endpoints) else 1


if __name__ == "__main__":
    sys.exit(main())
