"""The whole platform as real processes with a tiny base model, set up over HTTP as its users would."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from deploy.embedded.platform import Platform

OPERATOR_EMAIL = "operator@example.com"
OPERATOR_PASSWORD = "correct horse battery staple"
QUICK = {
    "PRELUDE_LEASE_SECONDS": "6",
    "PRELUDE_BEAT_SECONDS": "1",
    "PRELUDE_RESEND_SECONDS": "4",
    "PRELUDE_RECONCILE_SECONDS": "1",
    "PRELUDE_TRAINING_DTYPE": "float32",
    "PRELUDE_OPERATOR_PASSWORD": OPERATOR_PASSWORD,
}
PROJECT = Path(__file__).resolve().parents[1]
GOOD = ["great", "lovely", "fine", "superb", "happy"]
BAD = ["awful", "dreadful", "poor", "sad", "broken"]


PREFIX = {
    "kind": "prefix",
    "n_virtual_tokens": 4,
    "start_text": "A short review says whether it was good.",
}


def specification(
    *,
    method: Mapping[str, Any] = PREFIX,
    n_steps: int = 6,
    quorum: int = 2,
    learning_rate: float = 0.01,
) -> dict[str, Any]:
    """A label task that a two-layer model trains on in a blink."""
    return {
        "method": method,
        "task": {
            "kind": "label",
            "template": "{text}\nSentiment:",
            "label_words": {"positive": " good", "negative": " bad"},
        },
        "training": {"learning_rate": learning_rate, "n_steps": n_steps, "batch_size": 4},
        # A tiny random model is moved far by many steps: the bound is tested elsewhere.
        "aggregation": {"max_relative_norm": 100.0},
        "round": {"quorum": quorum, "deadline_seconds": 240},
        "gate": {"tolerance": 1.0},  # what a random model scores is noise: the gate is tested elsewhere
        "evaluation": {"n_held_out_rows": 20},
    }


def reviews(seed: int, n_rows: int = 120) -> str:
    """Rows of text and label as JSONL; each tenant's are its own."""
    draw = random.Random(seed)
    rows = []
    for number in range(n_rows):
        label, words = draw.choice([("positive", GOOD), ("negative", BAD)])
        text = f"Order {seed}-{number} was {draw.choice(words)} and the staff was {draw.choice(words)}."
        rows.append(json.dumps({"text": text, "label": label}))
    return "\n".join(rows) + "\n"


@dataclass(frozen=True)
class TenantAccess:
    """A tenant as its engineer sees it."""

    id: str
    client: httpx.Client
    dataset_id: str


@dataclass(frozen=True)
class RunningPlatform:
    """A platform that runs, its operator's key and login, a ready base model and three tenants with data."""

    platform: Platform
    operator: httpx.Client
    base_model: dict[str, Any]
    tenants: list[TenantAccess] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.platform.url

    @property
    def storage(self) -> Path:
        """Where its blobs lie."""
        return self.platform.directory / "storage"

    @property
    def base_directory(self) -> Path:
        """Where the tiny base model lies."""
        return self.platform.directory / "base_models" / "tiny"

    @contextmanager
    def new_tenant(self, slug: str) -> Iterator[TenantAccess]:
        """A further tenant with data, whom no other test knows."""
        tenant = _tenant(self.platform, self.operator, slug, seed=len(slug))
        with closing(tenant.client):
            yield tenant

    def make_federation(
        self, name: str, *, tenants: Sequence[TenantAccess] | None = None, **rules: Any
    ) -> dict[str, Any]:
        """A federation in which the three tenants, or the given ones, are enrolled, ready for rounds."""
        body = {"name": name, "base_model": self.base_model["id"], "specification": specification(**rules)}
        federation = post(self.operator, "federations", body)
        for tenant in self.tenants if tenants is None else tenants:
            post(self.operator, f"federations/{federation['id']}/enrolments", {"tenant": tenant.id})
            post(tenant.client, f"federations/{federation['id']}/enrolments", {"dataset": tenant.dataset_id})
        return self.wait_for(f"federations/{federation['id']}", lambda found: found["state"] == "ready")

    def start_round(self, federation: dict[str, Any]) -> dict[str, Any]:
        """A round that has just been started."""
        return post(self.operator, f"federations/{federation['id']}/rounds", {})

    def finish_round(self, started: dict[str, Any], *, seconds: float = 120) -> dict[str, Any]:
        """The round when it has ended."""
        ended = ("published", "kept", "failed", "canceled")
        return self.wait_for(
            f"rounds/{started['id']}", lambda found: found["state"] in ended, seconds=seconds
        )

    def wait_for(
        self, path: str, is_there: Callable[[dict[str, Any]], bool], *, seconds: float = 60
    ) -> dict[str, Any]:
        """What `path` answers, once it is as wanted."""
        return wait_for(self.operator, path, is_there, seconds=seconds)


def get(client: httpx.Client, path: str) -> dict[str, Any]:
    """The JSON answer to a GET that succeeds."""
    response = client.get(path)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def post(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The JSON answer to a POST that succeeds."""
    response = client.post(path, json=body)
    assert response.is_success, response.text
    made: dict[str, Any] = response.json()
    return made


def wait_for(
    client: httpx.Client, path: str, is_there: Callable[[dict[str, Any]], bool], *, seconds: float = 60
) -> dict[str, Any]:
    """Ask again and again until the answer is as wanted; fails with the last one."""
    give_up_at = time.monotonic() + seconds
    while not is_there(found := get(client, path)):
        assert time.monotonic() < give_up_at, f"{path} is still {found}"
        time.sleep(0.1)
    return found


@contextmanager
def running_platform(directory: Path, *, settings: Mapping[str, str] = QUICK) -> Iterator[RunningPlatform]:
    """Start everything, register the tiny base model and three tenants, stop everything."""
    base_models = directory / "base_models"
    base_models.mkdir(parents=True)
    make = [sys.executable, "-m", "tests.training_workers.tiny_model", str(base_models / "tiny")]
    subprocess.run(make, cwd=PROJECT, check=True, capture_output=True)
    with Platform(directory, n_gpu_workers=2, test_mode=True, settings=settings) as platform:
        _manage(platform, "create_operator", "--email", OPERATOR_EMAIL)
        key = _manage(platform, "create_operator_key", "--name", "tests").strip().splitlines()[-1]
        with client_of(platform, key) as operator:
            body = {"name": "tiny", "directory": "tiny", "source": "made for a test", "licence": "none"}
            made = post(operator, "base-models", body)
            base_model = wait_for(
                operator, f"base-models/{made['id']}", lambda found: found["state"] == "ready"
            )
            slugs = ("acme", "globex", "initech")
            tenants = [_tenant(platform, operator, slug, seed) for seed, slug in enumerate(slugs)]
            yield RunningPlatform(platform, operator, base_model, tenants)
            for tenant in tenants:
                tenant.client.close()


def client_of(platform: Platform, key: str) -> httpx.Client:
    """HTTP with a key."""
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=f"{platform.url}/api/v1/", headers=headers, timeout=30)


def _tenant(platform: Platform, operator: httpx.Client, slug: str, seed: int) -> TenantAccess:
    tenant = post(operator, "tenants", {"name": slug.title(), "slug": slug})
    key = post(operator, f"tenants/{tenant['id']}/keys", {"name": "tests"})["key"]
    client = client_of(platform, key)
    files = {"file": ("reviews.jsonl", reviews(seed).encode())}
    response = client.post("datasets", data={"name": "reviews"}, files=files)
    assert response.status_code == 201, response.text
    dataset_id = response.json()["id"]
    wait_for(client, f"datasets/{dataset_id}", lambda found: found["state"] == "ready")
    return TenantAccess(id=tenant["id"], client=client, dataset_id=dataset_id)


def _manage(platform: Platform, *words: str) -> str:
    command = [sys.executable, str(PROJECT / "manage.py"), *words]
    done = subprocess.run(command, env=platform.environment, check=True, capture_output=True, text=True)
    return done.stdout
