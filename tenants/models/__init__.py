"""Rows of the tenants' side."""

from tenants.models.audit import AuditEntry, AuditHead
from tenants.models.datasets import Dataset
from tenants.models.idempotency import IdempotencyRecord
from tenants.models.limits import TenantLimits, UsageDay
from tenants.models.owned import TenantOwned
from tenants.models.tenants import ApiKey, Membership, Tenant

__all__ = [
    "ApiKey",
    "AuditEntry",
    "AuditHead",
    "Dataset",
    "IdempotencyRecord",
    "Membership",
    "Tenant",
    "TenantLimits",
    "TenantOwned",
    "UsageDay",
]
