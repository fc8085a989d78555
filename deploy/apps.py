"""The deploy app: it brings management commands and system checks, no rows."""

from django.apps import AppConfig


class DeployConfig(AppConfig):
    """Makes the management commands known."""

    name = "deploy"
    verbose_name = "Deployment"

    def ready(self) -> None:
        """Register the system checks."""
        from deploy import checks as checks
