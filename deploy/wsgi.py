"""The web process's entry point."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deploy.settings")
from deploy.celery import app as celery_app  # settings first

application = get_wsgi_application()
__all__ = ["application", "celery_app"]
