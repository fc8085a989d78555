"""Buttons on a row: each is asked for once more, sent by POST, permitted on the server, and done by a service."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.db import models
from django.http import HttpRequest
from django.urls import reverse


@dataclass(frozen=True)
class Done:
    """What an action did, in a sentence, and the page that shows it."""

    told: str
    next_url: str


@dataclass(frozen=True, kw_only=True)
class RowAction:
    """One button: `run` gets the row and who acts, and calls a service, whose refusal becomes a message."""

    name: str  # in the address
    label: str
    icon: str
    question: str  # `{row}` stands for the row
    permission: str
    run: Callable[[Any, str], Done]
    is_offered: Callable[[Any], bool] = field(default=lambda _: True)
    style: str = "default"

    def is_permitted(self, request: HttpRequest) -> bool:
        """Whether this person may do it."""
        return request.user.has_perm(self.permission)

    def asked(self, row: models.Model) -> str:
        """The question about this row."""
        return self.question.format(row=row)

    def url(self, row: models.Model) -> str:
        """Where the button posts to."""
        return reverse(f"admin:{self.url_name(row._meta)}", args=[row.pk])

    def url_name(self, options: "models.options.Options[Any]") -> str:
        """The name of that address within the console."""
        return f"{options.app_label}_{options.model_name}_{self.name.replace('-', '_')}"
