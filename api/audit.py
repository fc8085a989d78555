"""The audit record: a tenant reads its own entries, an operator all; as pages, or as one stream of lines."""

import json
from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.fields import Body, Facts, PublicIdField
from api.rows import RowSerializer
from api.schema import paged
from api.views import ApiView
from tenants import selectors
from tenants.models import AuditEntry, Tenant
from tenants.rights import Resource
from tenants.states import ActorKind


class AuditFilter(Body):
    """Which entries."""

    action = serializers.CharField(required=False, max_length=64, help_text="Such as round.started.")
    object = serializers.CharField(required=False, max_length=64, help_text="The id of what was changed.")
    since = serializers.DateTimeField(required=False, help_text="At this time or later.")
    until = serializers.DateTimeField(required=False, help_text="Before this time.")


class AuditActorSerializer(RowSerializer[AuditEntry]):
    """Who made a change."""

    kind = serializers.ChoiceField(ActorKind.choices, source="actor_kind")
    id = serializers.CharField(source="actor_id")
    name = serializers.CharField(source="actor_name")


class AuditObjectSerializer(RowSerializer[AuditEntry]):
    """What was changed."""

    kind = serializers.CharField(source="object_kind")
    id = serializers.CharField(source="object_id")


class AuditEntrySerializer(RowSerializer[AuditEntry]):
    """One change. `before` and `after` hold the fields that differ; secrets are masked."""

    id = PublicIdField(AuditEntry)
    happened_at = serializers.DateTimeField()
    action = serializers.CharField()
    actor = AuditActorSerializer(source="*")
    credential = serializers.CharField(help_text="The key that was used, or the session's fingerprint.")
    address = serializers.CharField(help_text="The caller's, as the platform or its trusted proxy saw it.")
    request_id = serializers.CharField()
    tenant = PublicIdField(Tenant, source="tenant_id", allow_null=True)
    object = AuditObjectSerializer(source="*")
    before = Facts()
    after = Facts()


class AuditEntries(ApiView):
    """`/audit-entries`."""

    resource = Resource.AUDIT

    @paged("list_audit_entries", tag="audit", rows=AuditEntrySerializer, filters=AuditFilter)
    def get(self, _: Request) -> Response:
        """List changes, the newest first; a tenant sees its own."""
        return self.page(_chosen(self.filters(AuditFilter)), AuditEntrySerializer)


class AuditExport(ApiView):
    """`/audit-entries/export`. The answer is written when the view has returned: its lines enter scopes themselves."""

    resource = Resource.AUDIT
    holds_transaction = False

    @extend_schema(
        operation_id="export_audit_entries",
        tags=["audit"],
        parameters=[AuditFilter],
        responses={(200, "application/jsonl"): OpenApiTypes.STR},
    )
    def get(self, _: Request) -> HttpResponseBase:
        """Stream changes as JSON, one a line, in the order of the chain. An operator's lines tell their place in it."""
        asked = self.filters(AuditFilter)
        with self.scope():
            last = selectors.last_audit_number()
        lines = self._lines(asked, last=last)
        return StreamingHttpResponse(
            lines,
            content_type="application/jsonl",
            headers={
                "Content-Disposition": 'attachment; filename="audit.jsonl"',
                "Cache-Control": "no-store",
            },
        )

    def _lines(self, asked: dict[str, Any], *, last: int) -> Iterator[str]:
        """Batch by batch, each in a scope of its own: a slow reader holds no transaction open.

        A reader may take hours over it: it ends with the key, and at what was there when it began.
        """
        number = 0
        while self.may_go_on():
            with self.scope():
                entries = _chosen(asked).filter(number__lte=last)
                batch = list(selectors.audit_entries_after(entries, number=number))
            if not batch:
                return
            for entry in batch:
                assert entry.number is not None  # the selector reads numbered ones
                number = entry.number
                yield _line(entry, with_place=self.principal.is_operator)


def _chosen(asked: dict[str, Any]) -> QuerySet[AuditEntry]:
    wanted = {
        "action": "action",
        "object": "object_id",
        "since": "happened_at__gte",
        "until": "happened_at__lt",
    }
    return selectors.audit_entries().filter(**{wanted[name]: value for name, value in asked.items()})


def _line(entry: AuditEntry, *, with_place: bool) -> str:
    """The content, from which its hash can be computed anew. No tenant learns a number: it counts others' entries."""
    place = {"number": entry.number, "content_sha256": entry.content_sha256, "sha256": entry.sha256}
    content = entry.content() | ({"chain": place} if with_place else {})
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"
