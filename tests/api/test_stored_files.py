"""Stored files: no name can be guessed, none is shared by two tenants, and no path of ours serves one by its name."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError, connection
from pytest_django import Settings
from rest_framework.test import APIClient

from tenants import dispatch, scoping
from tenants.models import Dataset, Tenant
from tenants.services import datasets

ROWS = b'{"text": "the very same row", "label": "positive"}\n' * 50


@pytest.fixture
def root(settings: Settings) -> Path:
    return Path(settings.STORAGES["blobs"]["OPTIONS"]["location"])


def names_in(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def post(client: APIClient) -> Any:
    form = {"name": "rows", "file": SimpleUploadedFile("rows.jsonl", ROWS)}
    return client.post("/api/v1/datasets", form, format="multipart")


def upload(client: APIClient) -> Any:
    answer = post(client)
    assert answer.status_code == 201, answer.content
    return answer.json()


@pytest.mark.django_db(transaction=True)
def test_equal_uploads_of_two_tenants_share_no_blob_and_one_outlives_the_other(
    acme_client: APIClient, globex_client: APIClient, globex: Tenant, root: Path
) -> None:
    before = names_in(root)
    ours, theirs = upload(acme_client), upload(globex_client)
    first, second = names_in(root) - before
    assert (root / first).read_bytes() != (root / second).read_bytes()
    assert acme_client.delete(f"/api/v1/datasets/{ours['id']}").status_code == 204
    with scoping.tenant(globex.id):
        kept = Dataset.objects.get()
        with datasets.open_rows(kept) as rows:
            assert rows.read() == ROWS
    assert kept.public_id == theirs["id"]
    assert names_in(root) - before == {kept.blob_name}


@pytest.mark.django_db(transaction=True)
def test_a_file_stays_where_the_answer_to_the_commit_was_lost(
    acme_client: APIClient, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = connection._commit  # type: ignore[attr-defined]  # Django's own
    made: list[Dataset] = []

    def lose_the_answer() -> None:
        commit()
        if made:
            raise OperationalError("the connection was lost")

    acme_client.raise_request_exception = False
    with monkeypatch.context() as patched:
        patched.setattr(dispatch, "wake_worker", made.append)
        patched.setattr(connection, "_commit", lose_the_answer)
        assert post(acme_client).status_code == 503
    with scoping.tenant(acme.id), datasets.open_rows(Dataset.objects.get()) as rows:
        assert rows.read() == ROWS


@pytest.mark.django_db
def test_a_datasets_file_name_tells_neither_whose_it_is_nor_what_is_in_it(
    acme_client: APIClient, acme: Tenant, root: Path
) -> None:
    before = names_in(root)
    made = [upload(acme_client) for _ in range(2)]
    names = names_in(root) - before
    assert len(names) == 2, "the same rows again are another file"
    with scoping.tenant(acme.id):
        keys = [acme.id, *Dataset.objects.values_list("id", flat=True)]
    told = {acme.slug, acme.public_id[4:], *(row["id"][4:] for row in made)}
    told |= {form for key in keys for form in (str(key), key.hex, key.hex[:12])}
    told |= {hashlib.sha256((root / name).read_bytes()).hexdigest() for name in names}
    told.add(hashlib.sha256(ROWS).hexdigest())
    assert not [(name, word) for name in names for word in told if word in name]


@pytest.mark.django_db
def test_no_path_serves_a_file_by_its_name(
    operator_client: APIClient, acme_client: APIClient, root: Path
) -> None:
    before = names_in(root)
    upload(acme_client)
    [name] = names_in(root) - before
    rooms = ("", "media/", "static/", "console/", "api/v1/", "api/v1/datasets/", "api/v1/prefix-versions/")
    for room in rooms:
        for asked in (name, name.rpartition("/")[2], str(root / name)):
            for client in (operator_client, acme_client):
                answer = client.get(f"/{room}{asked}")
                assert answer.status_code in (302, 404), f"/{room}{asked}"
