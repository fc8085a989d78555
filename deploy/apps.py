"""The deploy app: it brings management commands, no rows."""

from django.apps import AppConfig


class DeployConfig(AppConfig):
    """Makes the management commands known."""

    name = "deploy"
    verbose_name = "Deployment"
