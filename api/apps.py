"""The api app."""

from django.apps import AppConfig


class ApiConfig(AppConfig):
    """Has no rows of its own."""

    name = "api"
    verbose_name = "API"
