"""Datasets: a tenant uploads them, the training side finds them sound or not; operators read the records."""

from typing import Any, ClassVar, TypedDict

from django.conf import settings
from django.http.response import HttpResponseBase
from rest_framework import serializers
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from api.fields import Body, Facts, PublicIdField
from api.idempotency import REPLAYED, answer_once, key_of, takes_idempotency_key, told_by
from api.permissions import TenantOnly
from api.rows import RowSerializer
from api.schema import operation, paged
from api.uploads import DatasetUploadHandler
from api.views import ApiView
from tenants import selectors
from tenants.lookups import pick
from tenants.models import Dataset, Tenant
from tenants.rights import Resource
from tenants.services.datasets import create_dataset, delete_dataset
from tenants.services.limits import dataset_quotas
from tenants.states import DatasetFormat, DatasetState

_FORM_BYTES = 2**20  # what a form may add to its file


class DatasetRefusal(TypedDict):
    """Why a dataset was refused, and at which row, counted from 1, where one row is at fault."""

    code: str
    detail: str
    row: int | None


class DatasetFacts(Facts):
    """What validation found, as far as the caller may know it."""

    def to_representation(self, value: Any) -> Any:
        """Without the labels for operators."""
        return selectors.shown_facts(value)


class NewDatasetSerializer(Body):
    """The form of an upload."""

    name = serializers.CharField(max_length=200)
    file = serializers.FileField(
        max_length=255, allow_empty_file=True, help_text="A .jsonl, .csv or .parquet file."
    )


class DatasetSerializer(RowSerializer[Dataset]):
    """A dataset's record; its rows are read by training workers alone."""

    reads = ("refusal_code", "state_reason", "refusal_row")

    id = PublicIdField(Dataset)
    tenant = PublicIdField(Tenant, source="tenant_id")
    name = serializers.CharField()
    format = serializers.ChoiceField(DatasetFormat.choices)
    size_bytes = serializers.IntegerField()
    state = serializers.ChoiceField(DatasetState.choices)
    facts = DatasetFacts(
        help_text="n_rows, n_train, n_held_out, n_duplicates, columns, …; labels and their counts for the tenant alone."
    )
    refusal = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)

    def get_refusal(self, row: Dataset) -> DatasetRefusal | None:
        """The reason, where it was refused."""
        if not row.refusal_code:
            return None
        return DatasetRefusal(code=row.refusal_code, detail=row.state_reason, row=row.refusal_row)


class Datasets(ApiView):
    """`/datasets`. Its scope is entered by the handlers: a transaction must not stay open while a file arrives."""

    resource = Resource.DATASETS
    only: ClassVar = {"POST": TenantOnly}
    holds_transaction = False
    parser_classes = [MultiPartParser]

    @property
    def max_body_bytes(self) -> int:  # type: ignore[override]  # the limit is a setting, not the class's
        """One dataset and its form."""
        return settings.MAX_DATASET_BYTES + _FORM_BYTES

    @paged("list_datasets", tag="datasets", rows=DatasetSerializer)
    def get(self, _: Request) -> Response:
        """List datasets, the newest first; a tenant sees its own."""
        with self.scope():
            return self.page(selectors.datasets(), DatasetSerializer)

    @operation(
        "upload_dataset",
        tag="datasets",
        body={"multipart/form-data": NewDatasetSerializer},
        answer=DatasetSerializer,
        status=201,
    )
    @takes_idempotency_key
    def post(self, request: Request) -> HttpResponseBase:
        """Upload a file. It is encrypted as it arrives; whether its rows are sound, the training side finds next."""
        tenant, key = self.principal.tenant, key_of(request)
        assert tenant is not None  # TenantOnly
        with self.scope():
            quotas = dataset_quotas(tenant=tenant)
        with DatasetUploadHandler(
            tenant=tenant, limit_bytes=settings.MAX_DATASET_BYTES, quotas=quotas
        ) as handler:
            request._request.upload_handlers = [handler]
            form = self.body(NewDatasetSerializer)
            upload = form["file"].upload
            upload.finish()

            def create() -> Response:
                return self.made(DatasetSerializer, create_dataset(name=form["name"], upload=upload))

            told = told_by(request, form["name"].encode(), upload.file_name.encode(), upload.content_digest)
            with self.scope():
                response = answer_once(self.principal, key, told, create)
            if REPLAYED in response.headers:  # the dataset has the bytes of the first time
                upload.abort()
            return response


class OneDataset(ApiView):
    """`/datasets/{id}`."""

    resource = Resource.DATASETS
    only: ClassVar = {"DELETE": TenantOnly}
    dataset: Dataset

    def load(self, dataset_id: str) -> None:  # type: ignore[override]
        """Among those that the caller sees."""
        self.dataset = pick(selectors.datasets, dataset_id)

    @operation("read_dataset", tag="datasets", answer=DatasetSerializer)
    def get(self, _: Request) -> Response:
        """Read a dataset's record."""
        return Response(DatasetSerializer(self.dataset).data)

    @operation("delete_dataset", tag="datasets", status=204)
    def delete(self, _: Request) -> Response:
        """Delete a dataset that no federation has used."""
        delete_dataset(dataset=self.dataset)
        return Response(status=204)
