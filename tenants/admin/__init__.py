"""The console's pages of tenants, their people, keys and datasets."""

from tenants.admin import api_keys, audit, datasets, memberships, people, sign_ins, tenants

__all__ = ["api_keys", "audit", "datasets", "memberships", "people", "sign_ins", "tenants"]
