"""What tests of the console share: signed-in people, addresses of pages, the text of an answer."""

import re
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.db import models
from django.test import Client
from django.urls import reverse

from tenants import scoping
from tenants.admin.rows import ServiceRows

PAGES = [model for model, page in admin.site._registry.items() if isinstance(page, ServiceRows)]
# Anything that a browser would fetch from another machine.
OUTSIDE = re.compile(r"""(?:src|href|action|hx-get|url)\s*[=(]\s*["']?(?:https?:)?//""")
OPERATOR = "operator:ops@example.com"


def signed_in(person: User, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(person)
    return client


def first(model: type[models.Model]) -> models.Model:
    with scoping.platform():
        row = model._default_manager.first()
    assert row is not None
    return row


def text_of(response: Any) -> str:
    assert response.status_code == 200, response.content
    return str(response.content.decode())


def list_url(model: type[models.Model]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def add_url(model: type[models.Model]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_add")


def action_url(row: models.Model, name: str) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_{name}", args=[row.pk])
