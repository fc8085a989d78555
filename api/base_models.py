"""Base models: operators register directories, the training side reads them, tenants see those that are ready."""

from typing import ClassVar

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.fields import Body, Facts, PublicIdField, RefusalField
from api.idempotency import idempotent
from api.permissions import OperatorOnly
from api.rows import RowSerializer
from api.schema import operation, paged
from api.views import ApiView
from federation.models import BaseModel
from federation.selectors import visibility
from federation.services.base_models import register_base_model
from federation.states import BaseModelState
from tenants.lookups import pick
from tenants.rights import Resource


class NewBaseModelSerializer(Body):
    """A base model to be registered."""

    name = serializers.CharField(max_length=200)
    directory = serializers.CharField(
        max_length=500, help_text="A Hugging Face directory, relative to the platform's root of base models."
    )
    source = serializers.CharField(max_length=500)  # type: ignore[assignment]  # hides Field.source
    licence = serializers.CharField(max_length=200)


class BaseModelSerializer(RowSerializer[BaseModel]):
    """A base model."""

    id = PublicIdField(BaseModel)
    name = serializers.CharField()
    directory = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]  # hides Field.source
    licence = serializers.CharField()
    state = serializers.ChoiceField(BaseModelState.choices)
    refusal = RefusalField()
    weights_sha256 = serializers.CharField(help_text="Empty until the weights are read.")
    tokenizer_sha256 = serializers.CharField()
    facts = Facts(
        help_text="architecture, kind (causal or encoder), n_layers, n_kv_heads, head_size, n_parameters, …"
    )
    created_at = serializers.DateTimeField()


class BaseModels(ApiView):
    """`/base-models`."""

    resource = Resource.BASE_MODELS
    only: ClassVar = {"POST": OperatorOnly}

    @paged("list_base_models", tag="base-models", rows=BaseModelSerializer)
    def get(self, _: Request) -> Response:
        """List base models; a tenant sees those that are ready."""
        return self.page(visibility.base_models(), BaseModelSerializer)

    @operation(
        "register_base_model",
        tag="base-models",
        body=NewBaseModelSerializer,
        answer=BaseModelSerializer,
        status=201,
    )
    @idempotent
    def post(self, _: Request) -> Response:
        """Register a directory; the training side reads it next."""
        return self.made(BaseModelSerializer, register_base_model(**self.body(NewBaseModelSerializer)))


class OneBaseModel(ApiView):
    """`/base-models/{id}`."""

    resource = Resource.BASE_MODELS
    base_model: BaseModel

    def load(self, base_model_id: str) -> None:  # type: ignore[override]
        """Among those that the caller sees."""
        self.base_model = pick(visibility.base_models, base_model_id)

    @operation("read_base_model", tag="base-models", answer=BaseModelSerializer)
    def get(self, _: Request) -> Response:
        """Read a base model."""
        return Response(BaseModelSerializer(self.base_model).data)
