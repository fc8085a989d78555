"""The console's pages of tenants, their people, keys and datasets."""

from tenants.admin import api_keys, datasets, memberships, people, tenants

__all__ = ["api_keys", "datasets", "memberships", "people", "tenants"]
