"""The web process's entry point."""

import gc
import os

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deploy.settings")
from api.charsets import Utf8Only
from deploy.celery import app as celery_app  # settings first

application = Utf8Only(get_wsgi_application())

# The views, which would else be imported within the first request. What is there now stays until the end: without the
# freeze each full collection would walk through all of it, and hold up all threads meanwhile.
_ = get_resolver().url_patterns
gc.collect()
gc.freeze()
__all__ = ["application", "celery_app"]
