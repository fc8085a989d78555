"""The tenants app."""

from django.apps import AppConfig


class TenantsConfig(AppConfig):
    """Registers the tenants' rows."""

    name = "tenants"
    verbose_name = "Tenants"
