"""What a worker fetches and submits of a federation whose tensors travel small, with a real trainer."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from federation import tasks
from federation.models import Federation, LocalRun, PrefixVersion, Residual
from federation.services import residuals, rounds
from federation.specification import parse_specification
from federation.states import FederationState, LocalRunState
from tenants import scoping, storage
from tenants.models import Dataset, Tenant
from tests.claims import claim
from tests.factories import BaseModelFactory, EnrolmentFactory, FederationFactory
from tests.federation import rounds as steps
from tests.platform import reviews, specification
from tests.tenants.test_datasets import create
from training_workers import work
from training_workers.attempts import Attempt
from training_workers.base_models import inspect_directory
from training_workers.resident import ResidentTrainer, TrainerResult

pytestmark = pytest.mark.django_db


class RecordingTrainer(ResidentTrainer):
    """A trainer that remembers what it was given to train from, and what it answered."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Mapping[str, bytes]] = []
        self.made: list[Mapping[str, bytes]] = []

    def run(
        self, job: Mapping[str, Any], blobs: Mapping[str, bytes] | None = None, **options: Any
    ) -> TrainerResult:
        """As ever."""
        answer = super().run(job, blobs, **options)
        if job["kind"] == "train":
            self.given.append(blobs or {})
            self.made.append(answer.blobs)
        return answer


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingTrainer]:
    """The worker's."""
    monkeypatch.setenv("PRELUDE_TRAINING_THREADS", "1")
    recording = RecordingTrainer()
    monkeypatch.setattr(work, "resident_trainer", lambda: recording)
    yield recording
    recording.close()


@pytest.fixture
def federation(
    acme: Tenant, settings: Settings, trainer: RecordingTrainer, tiny_directory: Path
) -> Federation:
    """Acme alone, on a tiny base, with 4 bits up and 8 down."""
    settings.BASE_MODELS_ROOT = tiny_directory.parent
    facts = inspect_directory(tiny_directory)
    base_model = BaseModelFactory.create(
        directory=tiny_directory.name,
        weights_sha256=facts.weights_sha256,
        tokenizer_sha256=facts.tokenizer_sha256,
    )
    small = {"upload": {"dtype": "int4", "error_feedback": True}, "broadcast": {"dtype": "int8"}}
    rules = {**specification(quorum=1, n_steps=2), **small, "evaluation": {"around_training": False}}
    made = FederationFactory.create(
        base_model=base_model,
        specification=parse_specification(rules).as_json(),
        state=FederationState.PREPARING,
    )
    with scoping.platform():
        claimed = claim(Federation, made.pk, owner="worker")
    work.prepare_start(Attempt(claimed))
    EnrolmentFactory.create(federation=made, tenant=acme, dataset=validated(acme))
    return steps.reload(made)


def validated(tenant: Tenant) -> Dataset:
    dataset = create(tenant, reviews(seed=1).encode())
    with scoping.tenant(tenant.id):
        claimed = claim(Dataset, dataset.pk, owner="worker")
    work.validate_dataset(Attempt(claimed))
    with scoping.tenant(tenant.id):
        return Dataset.objects.get(pk=dataset.pk)


def train(federation: Federation) -> LocalRun:
    """Acme's run of a new round, accepted; the round is called off."""
    federated_round = steps.start(steps.reload(federation))
    claimed = steps.claim(steps.runs_of(federated_round)[0])
    work.train(Attempt(claimed))
    tasks.advance(federated_round.public_id)
    with scoping.platform():
        rounds.cancel_round(federated_round=steps.reload(federated_round), actor="operator:anna")
    return steps.reload(claimed)


def test_tenants_train_from_the_small_version_and_give_back_what_rounding_left_out(
    federation: Federation, trainer: RecordingTrainer
) -> None:
    with scoping.platform():
        version = PrefixVersion.objects.get(federation=federation)
    broadcast = storage.get(version.broadcast_sha256, max_bytes=version.broadcast_size_bytes)
    assert len(broadcast) == version.broadcast_size_bytes < version.size_bytes

    first, second, third = (train(federation) for _ in range(3))

    assert [run.state for run in (first, second, third)] == [LocalRunState.ACCEPTED] * 3
    assert trainer.given == [
        {"state": broadcast},
        {"state": broadcast, "residual": trainer.made[0]["residual"]},
        {"state": broadcast, "residual": trainer.made[1]["residual"]},
    ]
    assert third.update_size_bytes == len(trainer.made[2]["update"])
    with scoping.tenant(first.tenant_id):
        assert Residual.objects.count() == 2
        assert residuals.read_last(local_run=third) == trainer.made[2]["residual"]
