"""Settings of every process, from the environment alone; safe for production unless the environment says otherwise."""

from deploy.settings.django import *  # noqa: F403 - Django reads names from this module
