"""A session on Prelude: the platform as `make up` runs it, but for the trainer: `python -m … DIRECTORY`."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import psycopg
from psycopg.conninfo import make_conninfo

from deploy.embedded import layout
from deploy.embedded.database import DATABASE
from deploy.embedded.platform import Platform
from deploy.embedded.postgres import SUPERUSER
from deploy.embedded.processes import ProcessSpecification
from deploy.embedded.secrets import load_or_create
from tests.benchmarks.rounds import marks
from tests.platform import PROJECT, client_of, post, reviews, specification

LOOK_EVERY_SECONDS = 0.005  # one query of a millisecond's tenth: the round itself is pushed along
TRAINING = "training_workers.tasks"
NOOP = "tests.benchmarks.rounds.noop_worker"
N_ROWS = 200  # fewer, and one of a thousand draws leaves a label without rows to hold out
N_STEPS = 1
ENDED = ("published", "kept", "failed", "canceled")
OPEN_WORK = """
    SELECT (SELECT count(*) FROM federation_evaluation WHERE finished_at IS NULL)
        + (SELECT count(*) FROM tenants_dataset WHERE state = 'validating')
        + (SELECT count(*) FROM federation_federation WHERE state = 'preparing')
        + (SELECT count(*) FROM federation_basemodel WHERE state = 'registering')
"""
ROUND = "SELECT state, state_reason FROM federation_federatedround ORDER BY opened_at DESC LIMIT 1"
MOVED = """
    SELECT extract(epoch FROM happened_at) FROM federation_roundevent
    WHERE federated_round_id = (SELECT id FROM federation_federatedround ORDER BY opened_at DESC LIMIT 1)
        AND kind = 'round.evaluating'
"""


def noop_workers(environment: Mapping[str, str], *, n_workers: int) -> list[ProcessSpecification]:
    """The product's training workers, with the module that does not learn in place of the product's."""
    return [
        replace(worker, command=tuple(NOOP if word == TRAINING else word for word in worker.command))
        for worker in GPU_WORKERS(environment, n_workers=n_workers)
    ]


GPU_WORKERS = layout.gpu_workers


class Session:
    """A platform with one federation in which all tenants are enrolled."""

    def __init__(self, platform: Platform, database: "psycopg.Connection[Any]") -> None:
        self.platform = platform
        self.database = database
        self._notes = platform.directory / "benchmark.json"
        if not self._notes.exists():
            self._notes.write_text(json.dumps(self._set_up()))
        notes = json.loads(self._notes.read_text())
        self.federation = notes["federation"]
        self.operator = client_of(platform, notes["key"])

    def _set_up(self) -> dict[str, str]:
        """Tenants with datasets, and their federation, all made over HTTP as their users would."""
        key = self._manage("create_operator_key", "--name", "benchmark").strip().splitlines()[-1]
        n_tenants = marks.number(marks.N_TENANTS)
        with client_of(self.platform, key) as operator:
            body = {"name": "noop", "directory": "noop", "source": "none", "licence": "none"}
            base_model = post(operator, "base-models", body)
            self.settle()
            rules = specification(n_steps=N_STEPS, quorum=n_tenants)
            rules["round"]["deadline_seconds"] = 3_600
            rules["evaluation"]["n_held_out_rows"] = 10
            asked = {"name": "noop", "base_model": base_model["id"], "specification": rules}
            federation = str(post(operator, "federations", asked)["id"])
            self.settle()
            for index in range(n_tenants):
                self._join(operator, federation, index)
        self.settle()
        return {"key": key, "federation": federation}

    def _join(self, operator: httpx.Client, federation: str, index: int) -> None:
        tenant = post(operator, "tenants", {"name": f"Tenant {index}", "slug": f"tenant-{index}"})
        key = post(operator, f"tenants/{tenant['id']}/keys", {"name": "benchmark"})["key"]
        post(operator, f"federations/{federation}/enrolments", {"tenant": tenant["id"]})
        with client_of(self.platform, key) as client:
            files = {"file": ("reviews.jsonl", reviews(index, N_ROWS).encode())}
            response = client.post("datasets", data={"name": "reviews"}, files=files)
            assert response.status_code == 201, response.text
            self.settle()
            post(client, f"federations/{federation}/enrolments", {"dataset": response.json()["id"]})

    def settle(self) -> None:
        """Wait until nothing is left to do."""
        while self._one(OPEN_WORK)[0]:
            time.sleep(LOOK_EVERY_SECONDS)

    def hold_round(self, number: int) -> None:
        """Start a round over HTTP and look at the database until it has ended."""
        began_at = time.time()
        post(self.operator, f"federations/{self.federation}/rounds", {})
        while (found := self._one(ROUND))[0] not in ENDED:
            time.sleep(LOOK_EVERY_SECONDS)
        assert found[0] == "published", found
        marks.mark_round(number, began_at=began_at, trained_at=float(self._one(MOVED)[0]))

    def _one(self, query: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = self.database.execute(query.encode()).fetchone()
        assert row is not None
        return row

    def _manage(self, *words: str) -> str:
        command = [sys.executable, str(PROJECT / "manage.py"), *words]
        environment = self.platform.environment
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


@contextmanager
def session(directory: Path) -> Iterator[Session]:
    """The platform over the directory, which keeps the tenants from one session to the next."""
    settings = {name: value for name, value in os.environ.items() if name.startswith("BENCH_")}
    with (
        mock.patch.object(layout, "gpu_workers", noop_workers),
        Platform(directory, settings=settings) as platform,
    ):
        secrets = load_or_create(platform.directory / "secrets.json")
        url = make_conninfo(
            platform.environment["DATABASE_URL"],
            user=SUPERUSER,
            password=secrets.superuser_password,
            dbname=DATABASE,
        )
        with psycopg.connect(url, autocommit=True) as database:
            yield Session(platform, database)


def main() -> None:
    """Hold the session's rounds."""
    with session(Path(sys.argv[1])) as running:
        for number in range(1, marks.number(marks.N_ROUNDS) + 1):
            running.hold_round(number)


if __name__ == "__main__":
    main()
