"""A thousand tenants and more than a hundred thousand rows, a few tenants having many; and what to ask of them.

python manage.py shell --command "from tests.benchmarks.api_rows import make; make('requests.json')"
"""

import json
import random
from base64 import b64encode
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

from django.db.models import Model
from django.utils import timezone

from federation.models import (
    Enrolment,
    FederatedRound,
    Federation,
    PrefixVersion,
)
from federation.states import LocalRunState, RoundState
from tenants import scoping
from tenants.models import Dataset, Tenant, TenantLimits
from tenants.rights import OPERATOR_RIGHTS
from tenants.services.api_keys import create_api_key
from tests.benchmarks.load import Request
from tests.factories import (
    BaseModelFactory,
    DatasetFactory,
    EnrolmentFactory,
    EvaluationFactory,
    FederatedRoundFactory,
    FederationFactory,
    LocalRunFactory,
    RoundEventFactory,
)

M = TypeVar("M", bound=Model)

RATE = 10**6  # requests are counted, and none is refused
N_TENANTS = 1_000
N_DATASETS = 40_000
N_FEDERATIONS = 100
N_ENROLLED = 40  # in each federation
N_ROUNDS = 10  # of each federation: one local run and one evaluation for each of the enrolled
N_REQUESTS = 100  # to choose from, of each endpoint
PAGE = 50
N_PAGES_BEFORE_DEEP = 4
MOVES = (RoundState.TRAINING, RoundState.AGGREGATING, RoundState.EVALUATING, RoundState.PUBLISHED)


@dataclass
class Made:
    """The rows, as far as requests are chosen from them."""

    tenants: list[Tenant]
    datasets: dict[Tenant, list[Dataset]] = field(default_factory=lambda: defaultdict(list))
    enrolments: dict[Federation, list[Enrolment]] = field(default_factory=lambda: defaultdict(list))
    rounds: dict[Federation, list[FederatedRound]] = field(default_factory=dict)
    n_rows: int = 0

    def add(self, rows: Iterable[M]) -> list[M]:
        """Insert rows of one model."""
        found = list(rows)
        type(found[0])._base_manager.bulk_create(found, batch_size=2_000)
        self.n_rows += len(found)
        return found


def _key_of(tenant: Tenant) -> str:
    return create_api_key(tenant=tenant, name="benchmark", giver_rights=OPERATOR_RIGHTS).text


def make(path: str) -> None:
    """Fill an empty database, and write the requests by endpoint and how many rows there are, as JSON."""
    draw = random.Random(1)
    with scoping.platform():
        made = Made(
            tenants=[Tenant(name=f"Tenant {n}", slug=f"t{n}", wrapped_data_key=b"") for n in range(N_TENANTS)]
        )
        made.add(made.tenants)
        made.add(TenantLimits(tenant=row, requests_per_minute=RATE) for row in made.tenants)
        make_datasets(made, draw)
        make_federations(made, draw)
        for federation in made.enrolments:
            made.rounds[federation] = make_rounds(made, federation)
        keys = {row: _key_of(row) for row in made.tenants}
    chosen = {name: draw.choices(found, k=N_REQUESTS) for name, found in requests(made, keys).items()}
    Path(path).write_text(json.dumps({"n_rows": made.n_rows, "n_tenants": N_TENANTS, "requests": chosen}))


def make_datasets(made: Made, draw: random.Random) -> None:
    """One for each tenant; of the others, tenant number n has a share of 1/n."""
    shares = [1 / number for number in range(1, N_TENANTS + 1)]
    owners = [*made.tenants, *draw.choices(made.tenants, shares, k=N_DATASETS - N_TENANTS)]
    for row in made.add(DatasetFactory.build(tenant=owner) for owner in owners):
        made.datasets[row.tenant].append(row)


def make_federations(made: Made, draw: random.Random) -> None:
    """A quarter of the enrolled are of the twenty tenants that take part in much."""
    base_model = BaseModelFactory.create()
    for federation in made.add(FederationFactory.build(base_model=base_model) for _ in range(N_FEDERATIONS)):
        often = draw.sample(made.tenants[:20], N_ENROLLED // 4)
        seldom = draw.sample(made.tenants[20:], N_ENROLLED - len(often))
        made.enrolments[federation] = made.add(
            EnrolmentFactory.build(tenant=tenant, federation=federation, dataset=made.datasets[tenant][0])
            for tenant in (*often, *seldom)
        )


def make_rounds(made: Made, federation: Federation) -> list[FederatedRound]:
    """Rounds that have all been published, each version the next one's parent."""
    now = timezone.now()
    version = _version(federation, 0, None)
    made.add([version])
    rounds = []
    for number in range(1, N_ROUNDS + 1):
        parent, version = version, _version(federation, number, version)
        made.add([version])
        rounds += made.add(
            [
                FederatedRoundFactory.build(
                    federation=federation,
                    number=number,
                    parent_version=parent,
                    candidate_version=version,
                    state=RoundState.PUBLISHED,
                    opened_at=now,
                    finished_at=now,
                )
            ]
        )
        make_work(made, rounds[-1], now)
    return rounds


def _version(federation: Federation, number: int, parent: PrefixVersion | None) -> PrefixVersion:
    """A version without bytes in storage."""
    sizes = {"size_bytes": 10_000, "broadcast_size_bytes": 10_000}
    return PrefixVersion(
        federation=federation,
        number=number,
        parent=parent,
        sha256="a" * 64,
        broadcast_sha256="a" * 64,
        **sizes,
    )


def make_work(made: Made, one: FederatedRound, now: datetime) -> None:
    """The round's moves, and a local run and an evaluation for each of the enrolled."""
    made.add(
        RoundEventFactory.build(
            federated_round=one, kind=f"round.{state}", happened_at=now + timedelta(minutes=minutes)
        )
        for minutes, state in enumerate(MOVES, start=1)
    )
    enrolled = made.enrolments[one.federation]
    made.add(
        LocalRunFactory.build(
            federated_round=one,
            enrolment=enrolment,
            state=LocalRunState.ACCEPTED,
            finished_at=now,
            attempt=1,
            progress={"step": 12, "n_steps": 12, "loss": 0.5, "tokens_per_second": 900.0},
            history=[[step, round(1 / step, 3)] for step in range(1, 13)],
            metrics={"accuracy_before": 0.75, "accuracy_after": 0.875, "dtype": "bfloat16", "device": "cpu"},
            update_sha256="b" * 64,
            update_size_bytes=10_000,
        )
        for enrolment in enrolled
    )
    made.add(
        EvaluationFactory.build(
            federation=one.federation,
            version=one.candidate_version,
            tenant=enrolment.tenant,
            dataset=enrolment.dataset,
            attempt=1,
        )
        for enrolment in enrolled
    )


def requests(made: Made, keys: dict[Tenant, str]) -> dict[str, list[Request]]:
    """By endpoint, requests as tenants that have what is asked for: a full page where it is one of a long list."""
    tenants = made.tenants
    many = [row for row in tenants if len(made.datasets[row]) >= PAGE]
    deep = [row for row in tenants if len(made.datasets[row]) >= (N_PAGES_BEFORE_DEEP + 1) * PAGE]
    parts = [
        (enrolment.tenant, federation)
        for federation, enrolments in made.enrolments.items()
        for enrolment in enrolments
    ]
    often = tenants[:20]
    return {
        "list datasets": [_request(keys, row, "datasets") for row in many],
        "list datasets, deep": [_deep(keys, row, made.datasets[row]) for row in deep],
        "read a dataset": [
            _request(keys, row, f"datasets/{made.datasets[row][-1].public_id}") for row in tenants
        ],
        "list federations": [_request(keys, row, "federations") for row in often],
        "list rounds": [_request(keys, row, f"federations/{one.public_id}/rounds") for row, one in parts],
        "read a round": [
            _request(keys, row, f"rounds/{made.rounds[one][-1].public_id}") for row, one in parts
        ],
        "list local runs": [_request(keys, row, "local-runs") for row in often],
        "read a tenant": [
            Request(f"/api/v1/tenants/{row.public_id}", f"/bare/{row.public_id}", keys[row])
            for row in tenants
        ],
    }


def _request(keys: dict[Tenant, str], tenant: Tenant, path: str) -> Request:
    return Request(f"/api/v1/{path}", f"/bare/{tenant.public_id}/{path}", keys[tenant])


def _deep(keys: dict[Tenant, str], tenant: Tenant, datasets: list[Dataset]) -> Request:
    last = sorted(datasets, key=lambda row: row.id, reverse=True)[N_PAGES_BEFORE_DEEP * PAGE - 1]
    cursor = b64encode(urlencode({"p": str(last.id)}).encode()).decode()
    shallow = _request(keys, tenant, "datasets")
    path = f"{shallow.path}?{urlencode({'cursor': cursor})}"
    return Request(path, f"{shallow.bare_path}?after={last.public_id}", shallow.key)
