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
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

import psutil
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
    """All answers to the requests of one endpoint, by the API or by the bare view, and what they cost the servers."""

    answers: list[Answer] = field(default_factory=list)
    server_seconds: Counter[str] = field(default_factory=Counter)

    def add(self, block: Block) -> None:
        """The answers to one more block of requests."""
        self.answers += [Answer(*answer) for answer in block.answers]
        self.server_seconds.update(block.server_seconds)

    def milliseconds(self, part: float) -> float:
        """The latency that this part of the answers keeps within."""
        ordered = sorted(answer.seconds for answer in self.answers)
        return 1_000 * ordered[int(part * (len(ordered) - 1))]

    def processor_ms(self, server: str) -> float:
        """What a request took of a processor, by one of the servers."""
        return 1_000 * self.server_seconds[server] / len(self.answers)

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


@dataclass(frozen=True)
class Served:
    """The web process's port, the servers' processes by name, and what `api_rows` wrote."""

    port: int
    servers: Mapping[str, int]
    n_rows: int
    n_tenants: int
    requests: dict[str, list[Request]]


@contextmanager
def served(directory: Path) -> Iterator[Served]:
    """The web process as `make up` starts it, over a full database."""
    servers = start_servers(directory / "s")
    try:
        environment = environment_of(servers, directory)
        manage(environment, "migrate", "--database", "owner", "--verbosity", "0")
        written = directory / "requests.json"
        manage(environment, "shell", "--command", MAKE_ROWS.format(path=str(written)))
        with psycopg.connect(servers.owner_database_url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
        with web(environment, log=directory / "web.log") as (port, pid):
            made = json.loads(written.read_text())
            requests = {
                name: [Request(*one) for one in found] for name, found in made.pop("requests").items()
            }
            yield Served(port=port, servers={"web": pid, **embedded()}, requests=requests, **made)
    finally:
        servers.stop()


def embedded() -> dict[str, int]:
    """The first processes of the PostgreSQL and the Valkey that this one started, if it did."""
    below = psutil.Process().children(recursive=True)
    names = {"postgres": "PostgreSQL", "valkey-server": "Valkey"}
    return {names[one.name()]: one.pid for one in reversed(below) if one.name() in names}


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
def web(environment: Mapping[str, str], *, log: Path) -> Iterator[tuple[int, int]]:
    """The web process; gives its port and its number once it answers."""
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
            yield port, process.pid
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


def measure(platform: Served, n_requests: int) -> list[Endpoint]:
    """The API's blocks and the bare views' by turns; the first turn is only for warming up."""
    draw, plan, blocks = Random(2), [], []
    endpoints = [Endpoint(name) for name in platform.requests]
    for turn in range(N_REPEATS + 1):
        for endpoint in endpoints:
            chosen = draw.choices(platform.requests[endpoint.name], k=n_requests)
            api = (endpoint.api, [(path, key) for path, _, key in chosen])
            bare = (endpoint.bare, [(bare_path, key) for _, bare_path, key in chosen])
            for side, requests in (api, bare) if turn % 2 else (bare, api):
                plan.append(side if turn else Side())
                blocks.append(requests)
    servers = json.dumps(platform.servers)
    client = [sys.executable, "-m", "tests.benchmarks.load", str(platform.port), servers]
    done = subprocess.run(client, input=json.dumps(blocks), check=True, stdout=subprocess.PIPE, text=True)
    sent = [Block(*one) for one in json.loads(done.stdout)]
    for side, block in zip(plan, sent, strict=True):
        side.add(block)
    share = sum(block.client_seconds for block in sent) / sum(block.wall_seconds for block in sent)
    print(f"The client took {share:.0%} of a processor.")
    return endpoints


def report(endpoints: list[Endpoint], servers: Iterable[str]) -> None:
    """Two tables: latencies, and what a request takes of the processors."""
    print("\n| endpoint | API ms: median, 95 % | bare ms: median, 95 % | times bare | answers | not 2xx |")
    print("|---|---|---|---|---|---|")
    for one in endpoints:
        sides = " | ".join(
            f"{side.milliseconds(0.5):.1f}, {side.milliseconds(0.95):.1f}" for side in (one.api, one.bare)
        )
        n_answers, n_failed = len(one.api.answers), one.api.n_failed + one.bare.n_failed
        print(f"| {one.name} | {sides} | {one.times_bare:.2f} | 2 x {n_answers} | {n_failed} |")
    names = list(servers)
    print(f"\n| processor ms a request, API and bare | {' | '.join(names)} | web: times bare |")
    print("|---" * (len(names) + 2) + "|")
    for one in endpoints:
        taken = " | ".join(f"{one.api.processor_ms(n):.2f}, {one.bare.processor_ms(n):.2f}" for n in names)
        times_bare = one.api.processor_ms("web") / one.bare.processor_ms("web")
        print(f"| {one.name} | {taken} | {times_bare:.2f} |")


def main() -> int:
    """Set up, compare, measure; 1 where an endpoint is too slow or an answer was none."""
    n_requests = int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS_PER_BLOCK
    with tempfile.TemporaryDirectory(prefix="prl") as directory, served(Path(directory)) as platform:
        print(f"{platform.n_rows} rows of {platform.n_tenants} tenants.", flush=True)
        for requests in platform.requests.values():
            compare_bodies(platform.port, requests)
        endpoints = measure(platform, n_requests)
    report(endpoints, platform.servers)
    return 0 if all(one.is_good for one in endpoints) else 1


if __name__ == "__main__":
    sys.exit(main())
