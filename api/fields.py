"""Fields and bodies that all resources share."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.extensions import OpenApiSerializerExtension, OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError

from tenants.ids import Identified, encode
from tenants.rights import RIGHT_CHOICES, Right
from tenants.transitions import Stateful

_MAX_NAMED = 10


class PublicIdField(serializers.CharField):
    """A row's public id: written from its key (so that no row is read for it), read as text for `pick` to look up."""

    def __init__(self, model: type[Identified], **options: Any) -> None:
        self.model = model
        super().__init__(**options)

    def to_representation(self, value: UUID) -> str:  # type: ignore[override]  # written from a key, read as text
        """Such as `rnd_01k…`."""
        return f"{self.model.id_prefix}_{encode(value)}"


class PublicIdSchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """The same in the OpenAPI document."""

    target_class = "api.fields.PublicIdField"

    def map_serializer_field(self, _auto_schema: AutoSchema, _direction: str) -> dict[str, Any]:
        """A string of a known form."""
        prefix = self.target.model.id_prefix
        return {"type": "string", "pattern": f"^{prefix}_[0-9a-hjkmnp-tv-z]{{26}}$"}


@extend_schema_field({"type": "object", "additionalProperties": True})
class Facts(serializers.JSONField):
    """Values by name, which their maker decides; none before it has looked."""


class RightsField(serializers.ListField):
    """Words of `tenants.rights`, written in alphabetical order."""

    child = serializers.ChoiceField(RIGHT_CHOICES)

    def to_representation(self, data: Collection[Right]) -> list[Right]:
        """Such as `["datasets:read", "datasets:write"]`."""
        return sorted(data)


class RefusalSerializer(serializers.Serializer[Any]):
    """Why something was refused: `code` is stable, `detail` is for people."""

    code = serializers.CharField()
    detail = serializers.CharField()


@extend_schema_field(RefusalSerializer)
class RefusalField(serializers.Field[Any, Any, dict[str, str] | None, Any]):
    """Code and reason of a row that was refused, else null. The row names the code in `code_field`."""

    def __init__(self, *, code_field: str = "refusal_code", **options: Any) -> None:
        self._code_field = code_field
        super().__init__(source="*", read_only=True, allow_null=True, **options)

    def to_representation(self, value: Stateful) -> dict[str, str] | None:
        """Nothing unless there is a code."""
        code = getattr(value, self._code_field)
        return {"code": code, "detail": value.state_reason} if code else None


class Body(serializers.Serializer[Any]):
    """What a caller sends. A field that is not known is refused: a name mistyped must not pass in silence."""

    default_error_messages: ClassVar[dict[str, Any]] = {"unknown_field": "There is no such field here."}

    def to_internal_value(self, data: Any) -> Any:
        """The fields' values. Raises ValidationError."""
        if isinstance(data, Mapping):
            unknown = sorted(str(name) for name in data if name not in self.fields)[:_MAX_NAMED]
            if unknown:
                fault = ErrorDetail(str(self.error_messages["unknown_field"]), code="unknown_field")
                raise ValidationError({name: [fault] for name in unknown})
        return super().to_internal_value(data)


class BodySchema(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    """Says in the OpenAPI document that no other fields are taken."""

    target_class = "api.fields.Body"
    match_subclasses = True

    def map_serializer(self, auto_schema: AutoSchema, direction: str) -> Any:
        """The serializer's own schema, closed."""
        schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)  # type: ignore[no-untyped-call]
        return {**schema, "additionalProperties": False}


class EmptyBody(Body):
    """Nothing, or `{}`."""
