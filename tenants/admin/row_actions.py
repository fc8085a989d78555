"""Buttons on a row: each is asked for once more, sent by POST, permitted on the server, and done by a service."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.db import models
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from tenants import scoping
from tenants.ids import Identified


def actor(request: HttpRequest) -> str:
    """Who acts, as it is recorded with publications and cancellations."""
    user = request.user
    return f"operator:{getattr(user, 'email', '') or user.get_username()}"


@dataclass(frozen=True)
class Done:
    """What an action did, in a sentence, and the page that shows it: where it is, or itself if it is shown once."""

    told: str
    next_url: str
    page: Callable[[HttpRequest], HttpResponse] | None = None


@dataclass(frozen=True, kw_only=True)
class RowAction:
    """One button: `run` gets the row and who acts, and calls a service, whose refusal becomes a message."""

    name: str  # in the address
    label: str
    icon: str
    question: str  # `{row}` stands for the row
    permission: str
    run: Callable[[Any, Any], Done]
    is_offered: Callable[[Any], bool] = field(default=lambda _: True)
    is_members_own: bool = False  # what a tenant does itself: no operator does it in its place
    style: str = "default"

    def is_permitted(self, request: HttpRequest) -> bool:
        """Whether this person may do it."""
        is_for_them = not (self.is_members_own and scoping.is_platform())
        return is_for_them and request.user.has_perm(self.permission)

    def perform(self, row: models.Model, request: HttpRequest) -> Done:
        """Do it. Raises what the service raises."""
        return self.run(row, actor(request))

    def asked(self, row: models.Model) -> str:
        """The question about this row."""
        return self.question.format(row=row)

    def url(self, row: models.Model) -> str:
        """Where the button posts to."""
        return reverse(f"admin:{self.url_name(row._meta)}", args=[row.pk])

    def url_name(self, options: "models.options.Options[Any]") -> str:
        """The name of that address within the console."""
        return f"{options.app_label}_{options.model_name}_{self.name.replace('-', '_')}"


@dataclass(frozen=True, kw_only=True)
class ChoiceAction(RowAction):
    """A button whose question is which of some other rows: `run` gets the row and the chosen one."""

    choices: Callable[[Any], "models.QuerySet[Any]"]

    def perform(self, row: models.Model, request: HttpRequest) -> Done:
        """Do it with the chosen row. Raises NotFound for one that is no choice, and what the service raises."""
        offered = self.choices(row)
        model: type[Identified] = offered.model
        return self.run(row, model.pick(offered, request.POST.get("choice", "")))
