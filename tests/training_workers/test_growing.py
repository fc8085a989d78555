"""Personal prefixes by a worker and its real trainer: from a tenant's encrypted rows to its encrypted prefix."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from pytest_django import Settings
from rest_framework.test import APIClient

from federation.specification import parse_specification
from tenants import storage
from tenants.models import Dataset, Tenant
from tests.factories import (
    BaseModelFactory,
    EnrolmentFactory,
    FederationFactory,
    PrefixVersionFactory,
    PublishedPrefixFactory,
)
from tests.training_workers.conftest import SPECIFICATION
from training_workers import tasks, work
from training_workers.base_models import inspect_directory
from training_workers.loading import TaskModel
from training_workers.methods import get_method
from training_workers.states import to_bytes

pytestmark = pytest.mark.django_db
MARK = "planted5d1f0c"


@pytest.fixture
def path(
    acme: Tenant, acme_client: APIClient, tiny_directory: Path, tiny_base: TaskModel, settings: Settings
) -> Iterator[str]:
    """Of the personal prefixes of a federation in which Acme takes part with rows that are mostly positive."""
    settings.BASE_MODELS_ROOT = tiny_directory.parent
    facts = inspect_directory(tiny_directory)
    base_model = BaseModelFactory.create(
        directory=tiny_directory.name,
        weights_sha256=facts.weights_sha256,
        tokenizer_sha256=facts.tokenizer_sha256,
    )
    rules = parse_specification(SPECIFICATION)
    federation = FederationFactory.create(base_model=base_model, specification=rules.as_json())
    start = to_bytes(get_method(rules.method).start(tiny_base, seed=0), {})
    version = PrefixVersionFactory.create(
        federation=federation, sha256=storage.put(start), size_bytes=len(start)
    )
    PublishedPrefixFactory.create(version=version)
    rows = [
        {"text": f"{MARK} good film {number}", "label": "negative" if number % 8 == 0 else "positive"}
        for number in range(80)
    ]
    file = SimpleUploadedFile("rows.jsonl", "\n".join(map(json.dumps, rows)).encode())
    uploaded = acme_client.post("/api/v1/datasets", {"name": "rows", "file": file}, format="multipart")
    dataset = Dataset(pk=Dataset.key_from(uploaded.json()["id"]), tenant=acme)
    EnrolmentFactory.create(tenant=acme, federation=federation, dataset=dataset)
    tasks.work_on_next()  # it is found sound
    yield f"/api/v1/federations/{federation.public_id}/personal-prefixes"
    work.resident_trainer().close()
    work.resident_trainer.cache_clear()


def test_each_rule_grows_one_that_its_tenant_can_take_out(
    acme_client: APIClient, path: str, settings: Settings
) -> None:
    grown: dict[str, Any] = {}
    for rule in ("fine_tune", "ditto", "personal_values", "prior"):
        settings_of_rule = {} if rule == "prior" else {"n_steps": 8, "learning_rate": 0.02}
        made = acme_client.post(path, {"rule": rule, **settings_of_rule}, format="json").json()
        tasks.work_on_next()
        grown[rule] = acme_client.get(f"/api/v1/personal-prefixes/{made['id']}").json()
    assert {row["state"] for row in grown.values()} == {"completed"}, grown
    assert len({row["shared_loss"] for row in grown.values()}) == 1, "all are compared with the same"
    for rule in ("fine_tune", "ditto", "personal_values"):
        assert grown[rule]["loss"] < grown[rule]["shared_loss"]
    archives = {}
    for rule, row in grown.items():
        data = acme_client.get(f"/api/v1/personal-prefixes/{row['id']}/archive").getvalue()
        archives[rule] = zipfile.ZipFile(io.BytesIO(data))
    tensors = {rule: archive.read("adapter_model.safetensors") for rule, archive in archives.items()}
    assert len(set(tensors.values())) == 4
    prior = json.loads(archives["prior"].read("prelude.json"))["label_log_prior"]
    assert prior["positive"] > prior["negative"]
    assert grown["prior"]["loss"] != grown["prior"]["shared_loss"], "what is compared is how the answers lean"
    kept = Path(settings.STORAGES["blobs"]["OPTIONS"]["location"])
    stored = [file.read_bytes() for file in kept.rglob("*") if file.is_file()]
    for rule in ("fine_tune", "ditto", "personal_values"):
        tail = tensors[rule][-64:]
        assert not any(tail in data for data in stored), "nothing of it is kept in the clear"
    assert not any(MARK.encode() in data for data in stored)
    assert not any(b"label_log_prior" in data or str(prior["negative"]).encode() in data for data in stored)
