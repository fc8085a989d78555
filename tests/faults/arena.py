"""A platform to be hurt: federations whose rounds differ from undisturbed ones in nothing but what hits them."""

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import psutil
import psycopg
from psycopg.conninfo import make_conninfo
from redis import Redis

from deploy.embedded import supervisor
from deploy.embedded.database import DATABASE
from deploy.embedded.postgres import SUPERUSER
from deploy.embedded.secrets import load_or_create
from tenants.failpoints import REACHED, SCATTER, VARIABLE, FailPoint
from tests.platform import QUICK, RunningPlatform, running_platform

IMPATIENT = {
    **QUICK,
    "PRELUDE_LEASE_SECONDS": "3",
    "PRELUDE_BEAT_SECONDS": "0.5",
    "PRELUDE_RESEND_SECONDS": "1",
    "PRELUDE_RECONCILE_SECONDS": "0.5",
}
ENDED = ("published", "kept", "failed", "canceled")
STUCK_AFTER_SECONDS = 120.0  # what a machine that is busy elsewhere needs, too
ANSWERED_WITHIN_SECONDS = 60.0
LOOK_EVERY_SECONDS = 0.1
N_STEPS = 20


@dataclass(frozen=True)
class Place:
    """Where the next round is to be held: a federation, and the number that the round will have."""

    federation: dict[str, Any]
    number: int


@dataclass
class Arena:
    """A running platform, the versions of an undisturbed federation, and the federation that is disturbed now."""

    running: RunningPlatform
    fail_points: Path
    undisturbed: list[str] = field(default_factory=list)  # digests of versions 1, 2, …
    calm_seconds: float = 0.0
    n_federations: int = 0
    place: Place | None = None

    def run_undisturbed(self, n_rounds: int) -> None:
        """Hold the rounds that the others are compared with; the last ones tell how long one takes."""
        federation = self._make_federation("undisturbed")
        for number in range(1, n_rounds + 1):
            started_at = time.monotonic()
            ended = self.await_end(self.open_round(Place(federation, number)))
            assert ended["state"] == "published", ended
            self.calm_seconds = time.monotonic() - started_at
        found = self.get(f"federations/{federation['id']}/prefix-versions?page_size=100")["results"]
        self.undisturbed = [row["sha256"] for row in sorted(found, key=lambda row: int(row["number"]))[1:]]

    def next_place(self, *, fresh: bool = False) -> Place:
        """The federation for the next round; a new one when it has as many as the undisturbed, or is asked for."""
        if fresh or self.place is None or self.place.number >= len(self.undisturbed):
            self.n_federations += 1
            self.place = Place(self._make_federation(f"disturbed {self.n_federations}"), 1)
        else:
            self.place = Place(self.place.federation, self.place.number + 1)
        return self.place

    def _make_federation(self, name: str) -> dict[str, Any]:
        federation = self.running.make_federation(name, n_steps=N_STEPS, quorum=3)
        self.settle(name)
        return federation

    def settle(self, federation_name: str) -> bool:
        """Wait until nothing of the federation is left to do; whether that came to be."""
        open_work = """
            SELECT count(*) FROM federation_federation f WHERE f.name = %(name)s AND (
                EXISTS (SELECT FROM federation_evaluation e WHERE e.federation_id = f.id AND e.finished_at IS NULL)
                OR EXISTS (SELECT FROM federation_localrun l JOIN federation_federatedround r
                           ON r.id = l.federated_round_id WHERE r.federation_id = f.id AND l.finished_at IS NULL))
        """
        return self._eventually(lambda: self.rows(open_work, name=federation_name) == [(0,)])

    def open_round(self, place: Place) -> str:
        """Start a round by hand, asking again under one idempotency key until there is an answer; its id."""
        return str(self.post(f"federations/{place.federation['id']}/rounds", {})["id"])

    def let_schedule_open_round(self, place: Place) -> str:
        """Make a schedule due now, and wait for the round that it opens; its id."""
        federation_id = place.federation["id"]
        rule = {"every_minutes": 500_000}
        self.ask("PUT", f"federations/{federation_id}/schedule", json=rule)
        self.rows(
            "UPDATE federation_schedule s SET next_due_at = now() FROM federation_federation f"
            " WHERE f.id = s.federation_id AND f.name = %(name)s RETURNING s.id",
            name=place.federation["name"],
        )
        newest: dict[str, Any] = {}

        def is_open() -> bool:
            found = self.get(f"federations/{federation_id}/rounds")["results"]
            newest.update(found[0] if found else {})
            return newest.get("number") == place.number

        assert self._eventually(is_open), f"the schedule opened no round {place.number}"
        return str(newest["id"])

    def await_end(self, round_id: str) -> dict[str, Any]:
        """The round when it has ended, or as it is after `STUCK_AFTER_SECONDS`."""
        self._eventually(lambda: self.get(f"rounds/{round_id}")["state"] in ENDED)
        return self.get(f"rounds/{round_id}")

    def _eventually(self, condition: Callable[[], bool]) -> bool:
        give_up_at = time.monotonic() + STUCK_AFTER_SECONDS
        while not (is_met := condition()) and time.monotonic() < give_up_at:
            time.sleep(LOOK_EVERY_SECONDS)
        return is_met

    def get(self, path: str) -> dict[str, Any]:
        """The JSON answer to a GET."""
        return self.ask("GET", path)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON answer to a POST, however often it has to be sent."""
        return self.ask("POST", path, json=body, headers={"Idempotency-Key": uuid.uuid4().hex})

    def ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """What a client with patience gets: it asks again when the server dies, is away, or fails."""
        give_up_at = time.monotonic() + ANSWERED_WITHIN_SECONDS
        while True:
            try:
                response = self.running.operator.request(method, path, **request)
                if response.status_code < 500:
                    break
                problem: object = response.text
            except httpx.TransportError as error:
                problem = error
            assert time.monotonic() < give_up_at, f"{method} {path} was not answered: {problem}"
            time.sleep(LOOK_EVERY_SECONDS)
        assert response.is_success, f"{method} {path}: {response.text}"
        answer: dict[str, Any] = response.json()
        return answer

    def rows(self, query: str, **values: object) -> list[tuple[Any, ...]]:
        """What the database holds, read past every policy; asked again while it is being restarted."""
        give_up_at = time.monotonic() + ANSWERED_WITHIN_SECONDS
        while True:
            try:
                with psycopg.connect(self._superuser_url, connect_timeout=2) as connection:
                    return connection.execute(query.encode(), values).fetchall()
            except psycopg.OperationalError:
                assert time.monotonic() < give_up_at, "PostgreSQL does not come back"
                time.sleep(LOOK_EVERY_SECONDS)

    @property
    def _superuser_url(self) -> str:
        platform = self.running.platform
        password = load_or_create(platform.directory / "secrets.json").superuser_password
        url = platform.environment["DATABASE_URL"]
        return make_conninfo(url, user=SUPERUSER, password=password, dbname=DATABASE)

    def arm(self, point: FailPoint, detail: str = "") -> None:
        """Have the first process die that reaches the point (with this detail, if one is given)."""
        (self.fail_points / point).with_suffix(REACHED).unlink(missing_ok=True)
        draft = self.fail_points / "draft"
        draft.write_text(detail)
        draft.rename(self.fail_points / point)

    def disarm(self, point: FailPoint) -> float | None:
        """When the point was reached, in seconds of the clock; None if it was not."""
        (self.fail_points / point).unlink(missing_ok=True)
        reached = (self.fail_points / point).with_suffix(REACHED)
        return reached.stat().st_ctime if reached.exists() else None

    @contextmanager
    def scattering(self) -> Iterator[None]:
        """Every message is delivered five times, in no order, while the block runs."""
        scatter = self.fail_points / SCATTER
        scatter.touch()
        try:
            yield
        finally:
            scatter.unlink()

    def trainers(self) -> list[int]:
        """The process ids of the training workers' children."""
        parents = [psutil.Process(pid) for pid in self.running.platform.pids("gpu")]
        return [child.pid for parent in parents for child in parent.children()]

    def kill(self, pids: list[int], number: signal.Signals = signal.SIGKILL) -> None:
        """End processes, those that are there."""
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def flush_broker(self) -> None:
        """Take everything out of Valkey."""
        with Redis.from_url(self.running.platform.environment["BROKER_URL"]) as client:
            client.flushall()


@contextmanager
def arena(directory: Path, *, n_undisturbed: int) -> Iterator[Arena]:
    """The platform with fail points, after its undisturbed rounds. What is killed is started again at once."""
    fail_points = directory / "fail-points"
    fail_points.mkdir(parents=True)
    settings = {**IMPATIENT, VARIABLE: str(fail_points)}
    with (
        # Killing is what is done here: whoever dies often is not to wait for it.
        mock.patch.object(supervisor, "LONGEST_DELAY_SECONDS", supervisor.FIRST_DELAY_SECONDS),
        running_platform(directory / "p", settings=settings) as running,
    ):
        ready = Arena(running, fail_points)
        ready.run_undisturbed(n_undisturbed)
        yield ready
