"""Django's admin with the console's own site."""

from django.contrib.admin.apps import AdminConfig


class ConsoleConfig(AdminConfig):
    """Makes `admin.site` the console's."""

    default_site = "deploy.console_site.ConsoleSite"
