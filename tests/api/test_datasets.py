"""Uploads over HTTP: encrypted as they arrive, refused early, nothing left behind."""

import io
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings
from rest_framework.test import APIClient

from tenants import scoping, storage
from tenants.models import Dataset, Tenant
from tenants.services import datasets
from tenants.states import DatasetState
from tests.api.problems import assert_same_as_unknown, faults, problem
from tests.conftest import Message
from tests.factories import DatasetFactory, EnrolmentFactory

pytestmark = pytest.mark.django_db
PATH = "/api/v1/datasets"
ROWS = b'{"text": "a secret sentence", "label": "positive"}\n' * 4_000


def file(data: bytes = ROWS, name: str = "rows.jsonl") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, data)


def upload(client: APIClient, **form: Any) -> Any:
    return client.post(PATH, form, format="multipart")


@pytest.fixture(autouse=True)
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where uploads wait; the test sees what is left there."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


@pytest.fixture
def nothing_is_left(settings: Settings, temporary_files: Path) -> Iterator[None]:
    """No row, no blob and no temporary file more than before."""
    root = Path(settings.STORAGES["blobs"]["OPTIONS"]["location"])
    before = sorted(root.rglob("*"))
    yield
    with scoping.platform():
        assert not Dataset.objects.exists()
    assert [path for path in sorted(root.rglob("*")) if path.is_file() and path not in before] == []
    assert list(temporary_files.iterdir()) == []


def test_an_upload_is_kept_encrypted_and_sent_to_be_validated(
    acme_client: APIClient,
    acme: Tenant,
    sent_messages: list[Message],
    temporary_files: Path,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        made = upload(acme_client, name="reviews", file=file())
    assert made.status_code == 201, made.content
    body = made.json()
    assert body["id"].startswith("dst_")
    assert (body["name"], body["state"], body["format"]) == ("reviews", "validating", "jsonl")
    assert (body["size_bytes"], body["facts"], body["refusal"]) == (len(ROWS), {}, None)
    assert body["tenant"] == acme.public_id
    assert sent_messages == [Message("training_workers.work", [], "gpu")]
    with scoping.tenant(acme.id), datasets.open_rows(Dataset.objects.get()) as rows:
        assert rows.read() == ROWS
    assert list(temporary_files.iterdir()) == []
    assert acme_client.get(f"{PATH}/{body['id']}").json() == body
    assert acme_client.get(PATH).json()["results"] == [body]


def test_the_name_may_come_after_the_file(acme_client: APIClient) -> None:
    content = encode_multipart(BOUNDARY, {"file": file(), "name": "late"})
    made = send(acme_client, io.BytesIO(content), len(content))
    assert made.json()["name"] == "late"


@pytest.mark.parametrize(
    ("name", "data", "status", "code"),
    [
        ("rows.xlsx", b"PK", 415, "dataset_format_unknown"),
        ("rows.jsonl", b"", 422, "dataset_empty"),
        ("rows.jsonl", b"text,label\n" + ROWS, 422, "dataset_encoding"),
        ("rows.csv", b"\xff\xfe" + ROWS, 422, "dataset_encoding"),
        ("rows.parquet", ROWS, 422, "dataset_encoding"),
        ("rows.csv", b"a" * 300_000, 413, "dataset_too_large"),
    ],
)
@pytest.mark.usefixtures("nothing_is_left")
def test_what_can_be_told_at_the_door(
    acme_client: APIClient, settings: Settings, name: str, data: bytes, status: int, code: str
) -> None:
    settings.MAX_DATASET_BYTES = 250_000
    problem(upload(acme_client, name="x", file=file(data, name)), status, code)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (lambda: {"file": file()}, {("name", "required")}),
        (lambda: {"name": "x"}, {("file", "required")}),
        (lambda: {"name": "x", "file": "text"}, {("file", "invalid")}),
        (lambda: {"name": "x", "file": file(), "state": "ready"}, {("state", "unknown_field")}),
        (lambda: {"name": "n" * 201, "file": file()}, {("name", "max_length")}),
    ],
)
@pytest.mark.usefixtures("nothing_is_left")
def test_a_form_that_is_not_valid(
    acme_client: APIClient, form: Callable[[], dict[str, Any]], expected: set[tuple[str, str]]
) -> None:
    assert faults(upload(acme_client, **form())) == expected


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize(
    "form", [lambda: {"name": "x", "file": [file(), file()]}, lambda: {"name": "x", "data": file()}]
)
def test_a_form_has_one_file(acme_client: APIClient, form: Callable[[], dict[str, Any]]) -> None:
    problem(upload(acme_client, **form()), 400, "request_not_readable")


@pytest.mark.usefixtures("nothing_is_left")
def test_a_length_far_over_the_limit_is_refused_before_anything_is_read(
    acme_client: APIClient, settings: Settings
) -> None:
    settings.MAX_DATASET_BYTES = 1_000
    body = Body(encode_multipart(BOUNDARY, {"name": "x", "file": file(b"a" * 2**21, "rows.csv")}))
    problem(send(acme_client, body, body.n_bytes), 413, "request_too_large")
    assert body.n_read == 0


class Body(io.BytesIO):
    """A body that counts what is read of it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.n_bytes = len(data)

    @property
    def n_read(self) -> int:
        """Bytes so far."""
        return self.tell()


def send(client: APIClient, body: io.IOBase, length: int) -> Any:
    """POST a stream as a server hands it over."""
    stream: dict[str, Any] = {
        "wsgi.input": body,
        "CONTENT_LENGTH": str(length),
    }
    return client.generic("POST", PATH, content_type=MULTIPART_CONTENT, **stream)


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize("n_missing", [1_000, 60, 30])
def test_a_connection_that_breaks_leaves_nothing(acme_client: APIClient, n_missing: int) -> None:
    whole = encode_multipart(BOUNDARY, {"name": "x", "file": file()})
    body = Body(whole[:-n_missing])
    problem(send(acme_client, body, len(whole)), 400, "upload_interrupted")


class Broken(Body):
    """A body whose connection is reset midway."""

    def read(self, size: int | None = -1) -> bytes:
        """Some bytes, then the error."""
        if self.tell() > 100_000:
            raise ConnectionResetError("peer is gone")
        return super().read(size)


@pytest.mark.usefixtures("nothing_is_left")
def test_a_connection_that_is_reset_leaves_nothing(acme_client: APIClient) -> None:
    whole = encode_multipart(BOUNDARY, {"name": "x", "file": file()})
    problem(send(acme_client, Broken(whole), len(whole)), 400, "upload_interrupted")


@pytest.mark.usefixtures("nothing_is_left")
def test_a_refused_file_is_read_to_its_end_so_that_its_sender_reads_the_answer(
    acme_client: APIClient,
) -> None:
    body = Body(encode_multipart(BOUNDARY, {"name": "x", "file": file(b"\x00" * 2**20)}))
    problem(send(acme_client, body, body.n_bytes), 422, "dataset_encoding")
    assert body.n_read == body.n_bytes


@pytest.mark.usefixtures("nothing_is_left")
def test_of_a_refused_file_without_end_no_more_is_read_than_is_decent(
    acme_client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.uploads.MOST_DRAINED_BYTES", 100_000)
    body = Body(encode_multipart(BOUNDARY, {"name": "x", "file": file(b"\x00" * 2**20)}))
    problem(send(acme_client, body, body.n_bytes), 422, "dataset_encoding")
    assert body.n_read < 300_000


@pytest.mark.usefixtures("nothing_is_left")
def test_a_row_that_cannot_be_committed_leaves_nothing(
    acme_client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the row fails after it was written")

    monkeypatch.setattr("tenants.dispatch.wake_worker", fail)
    acme_client.raise_request_exception = False
    problem(upload(acme_client, name="x", file=file()), 500, "internal_error")


def test_no_transaction_is_open_while_the_file_arrives(
    acme_client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    outer = len(connection.savepoint_ids)
    put_file = storage.put_file

    def watched(ciphertext: IO[bytes]) -> str:
        seen.append(len(connection.savepoint_ids))
        return put_file(ciphertext)

    monkeypatch.setattr(storage, "put_file", watched)
    assert upload(acme_client, name="x", file=file()).status_code == 201
    assert seen == [outer]


class LongForm(io.RawIOBase):
    """A form whose file is long and is held nowhere."""

    def __init__(self, block: bytes, n_blocks: int) -> None:
        form = encode_multipart(BOUNDARY, {"name": "x", "file": file(b"@@", "rows.csv")})
        head, _, tail = form.partition(b"@@")
        self.parts = [head, *[block] * n_blocks, tail]
        self.n_bytes = sum(map(len, self.parts))
        self.left = b""

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes, or some of them."""
        if not self.left and self.parts:
            self.left = self.parts.pop(0)
        taken, self.left = self.left[:size], self.left[size:]
        return taken


@pytest.mark.parametrize(("line", "status"), [(b"a,b\n", 201), (b"\x00\x00\x00\x00", 422)])
def test_memory_does_not_grow_with_the_file(acme_client: APIClient, line: bytes, status: int) -> None:
    """Neither with one that is kept, nor with one that is read to its end although it is refused."""
    body = LongForm(line * 16_384, n_blocks=600)
    tracemalloc.start()
    answer = send(acme_client, body, body.n_bytes)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.status_code == status, answer.content
    assert peak_bytes < 4 * 2**20 < 600 * 65_536


def test_only_tenants_upload_and_delete(operator_client: APIClient, acme: Tenant) -> None:
    dataset = DatasetFactory.create(tenant=acme)
    problem(upload(operator_client, name="x", file=file()), 403, "tenant_only")
    path = f"{PATH}/{dataset.public_id}"
    assert operator_client.get(path).json()["facts"]["n_train"] == 80
    problem(operator_client.delete(path), 403, "tenant_only")


def test_how_often_a_label_occurs_is_told_to_the_tenant_alone(
    acme_client: APIClient, operator_client: APIClient, acme: Tenant
) -> None:
    dataset = DatasetFactory.create(tenant=acme)
    for path in (PATH, f"{PATH}/{dataset.public_id}"):
        own, shown = acme_client.get(path).json(), operator_client.get(path).json()
        [own, shown] = [body["results"][0] if path == PATH else body for body in (own, shown)]
        assert own["facts"].pop("labels") == {"positive": 50, "negative": 50}
        assert shown == own


def test_a_refusal_is_told_with_row_and_code(acme_client: APIClient, acme: Tenant) -> None:
    dataset = DatasetFactory.create(
        tenant=acme,
        state=DatasetState.REFUSED,
        refusal_code="label_missing",
        refusal_row=3,
        state_reason="Row 3 has no label.",
    )
    body = acme_client.get(f"{PATH}/{dataset.public_id}").json()
    assert body["refusal"] == {"code": "label_missing", "detail": "Row 3 has no label.", "row": 3}


def test_a_dataset_that_was_never_used_is_deleted_with_its_bytes(
    acme_client: APIClient,
    settings: Settings,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    root = Path(settings.STORAGES["blobs"]["OPTIONS"]["location"])
    before = {path for path in root.rglob("*") if path.is_file()}
    path = f"{PATH}/{upload(acme_client, name='x', file=file()).json()['id']}"
    with django_capture_on_commit_callbacks(execute=True):
        assert acme_client.delete(path).status_code == 204
    problem(acme_client.get(path), 404, "not_found")
    assert {path for path in root.rglob("*") if path.is_file()} == before


def test_a_dataset_that_is_used_stays(acme_client: APIClient, acme: Tenant) -> None:
    dataset = DatasetFactory.create(tenant=acme)
    EnrolmentFactory.create(tenant=acme, dataset=dataset)
    problem(acme_client.delete(f"{PATH}/{dataset.public_id}"), 409, "dataset_in_use")
    assert acme_client.get(f"{PATH}/{dataset.public_id}").status_code == 200


def test_an_outsider_sees_nothing(globex_client: APIClient, acme: Tenant) -> None:
    dataset = DatasetFactory.create(tenant=acme)
    assert globex_client.get(PATH).json()["results"] == []
    assert_same_as_unknown(globex_client, PATH + "/{}", dataset.public_id)
    assert_same_as_unknown(globex_client, PATH + "/{}", dataset.public_id, method="delete")
    with scoping.platform():
        assert Dataset.objects.count() == 1
