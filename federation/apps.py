"""The federation app."""

from django.apps import AppConfig


class FederationConfig(AppConfig):
    """Registers the federation's rows."""

    name = "federation"
    verbose_name = "Federation"

    def ready(self) -> None:
        """Register the system checks."""
        from federation import checks as checks
