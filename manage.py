#!/usr/bin/env python
"""Django's command line."""

import os
import sys

from django.core.management import execute_from_command_line


def main() -> None:
    """Run a management command, with the broker known to those that send messages."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deploy.settings")
    import deploy.celery  # noqa: F401 - makes the application's broker the current one

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
