"""Answers that were given under an idempotency key, kept to be given again."""

from django.db import models
from django.db.models.functions import Now

from tenants.models.owned import TenantOwned


class IdempotencyRecord(TenantOwned):
    """A caller's idempotency key, the request that it came with, and the answer to it.

    The caller is the tenant, or the operator's key. The row is written at the start of the transaction that makes the
    object and answered at its end, so that a row which others can see is always answered.
    """

    id_prefix = "idm"

    tenant = models.ForeignKey(  # type: ignore[assignment]  # an operator's belongs to no tenant
        "tenants.Tenant", null=True, on_delete=models.CASCADE, related_name="idempotency_records"
    )
    caller = models.UUIDField()
    key = models.CharField(max_length=255)
    request_digest = models.BinaryField(max_length=32)
    status = models.PositiveSmallIntegerField(null=True)
    sealed_body = models.BinaryField(default=b"")
    created_at = models.DateTimeField(db_default=Now(), db_index=True)

    class Meta:
        verbose_name = "idempotency record"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "caller", "key"], nulls_distinct=False, name="idempotency_record_unique"
            ),
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def is_answered(self) -> bool:
        """Whether the request was carried out before."""
        return self.status is not None
