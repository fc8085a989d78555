"""The audit record: one entry a change, chained by hashes, never changed and never removed."""

import hashlib
import json
from datetime import UTC
from typing import Any, ClassVar

from django.db import models
from django.db.models import Q

from tenants.ids import encode
from tenants.models.owned import TenantOwned
from tenants.models.tenants import Tenant
from tenants.states import ActorKind


def link(previous_sha256: str, content_sha256: str) -> str:
    """The hash of an entry: over the hash of the one before it ("" before the first) and its own content's."""
    return hashlib.sha256((previous_sha256 + content_sha256).encode()).hexdigest()


class AuditEntry(TenantOwned):
    """One change: who, from where, what, on which object, before and after.

    `number` and `sha256`, its place in the chain, are written by a trigger when the transaction commits. It outlives
    what it tells of: neither tenant nor object is a foreign key in the database.
    """

    id_prefix = "aud"
    has_owner_rows: ClassVar[bool] = True  # the trigger that seals entries runs as the owner

    tenant = models.ForeignKey(  # type: ignore[assignment]  # a change of the platform's belongs to no tenant
        Tenant, null=True, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    happened_at = models.DateTimeField()
    actor_kind = models.CharField(max_length=16, choices=ActorKind)
    actor_id = models.CharField(max_length=64)
    actor_name = models.CharField(max_length=200)
    credential = models.CharField(max_length=64, help_text="The key, or the session's fingerprint.")
    address = models.CharField(
        max_length=45, help_text="The caller's, as this process or a trusted proxy saw it."
    )
    request_id = models.CharField(max_length=64)
    action = models.CharField(max_length=64)
    object_kind = models.CharField(max_length=64)
    object_id = models.CharField(max_length=64)
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    content_sha256 = models.CharField(max_length=64)
    number = models.BigIntegerField(null=True, help_text="Its place in the chain, from 1; set at the commit.")
    sha256 = models.CharField(max_length=64, default="")

    class Meta:
        verbose_name = "audit entry"
        verbose_name_plural = "audit entries"
        constraints = [
            models.CheckConstraint(
                condition=Q(actor_kind__in=ActorKind.values), name="audit_entry_actor_kind_known"
            ),
            models.CheckConstraint(
                condition=Q(action__regex=r"^[a-z_]+\.[a-z_]+$"), name="audit_entry_action_two_words"
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "id"], name="audit_entry_tenant"),
            models.Index(fields=["object_id", "id"], name="audit_entry_object"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.object_id}"

    def content(self) -> dict[str, Any]:
        """All that the entry says, as it is exported and as its hash is taken."""
        return {
            "id": self.public_id,
            "happened_at": self.happened_at.astimezone(UTC).isoformat(timespec="microseconds"),
            "actor": {"kind": str(self.actor_kind), "id": self.actor_id, "name": self.actor_name},
            "credential": self.credential,
            "tenant": f"{Tenant.id_prefix}_{encode(self.tenant_id)}" if self.tenant_id else None,
            "address": self.address,
            "request_id": self.request_id,
            "action": self.action,
            "object": {"kind": self.object_kind, "id": self.object_id},
            "before": self.before,
            "after": self.after,
        }

    def digest(self) -> str:
        """SHA-256 of the content as JSON with sorted keys, no spaces, UTF-8."""
        text = json.dumps(self.content(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


class AuditHead(models.Model):
    """The chain's end, one row that triggers alone write: how many entries there are, and the last one's hash."""

    id = models.SmallIntegerField(primary_key=True)
    n_entries = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)

    class Meta:
        verbose_name = "audit head"
        constraints = [models.CheckConstraint(condition=Q(id=1), name="audit_head_one_row")]

    def __str__(self) -> str:
        return f"{self.n_entries} entries"
