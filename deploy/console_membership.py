"""Tenants' people in the console: which of a person's memberships is in force, how it is chosen, how pages show it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from tenants import scoping, selectors
from tenants.errors import NotFound
from tenants.models import Membership

SESSION_KEY = "membership"


@dataclass(frozen=True)
class Entry:
    """How a member has entered: by one membership, with those that it could change to."""

    membership: Membership
    others: list[Membership]


_IN_FORCE: ContextVar[Entry | None] = ContextVar("console_entry_in_force", default=None)


def in_force() -> Entry | None:
    """How the member whose request is answered has entered; None for staff and outside of the console."""
    return _IN_FORCE.get()


@contextmanager
def using(entry: Entry) -> Iterator[None]:
    """What is asked within is asked by this member."""
    token = _IN_FORCE.set(entry)
    try:
        yield
    finally:
        _IN_FORCE.reset(token)


def entry_of(request: HttpRequest) -> Entry | None:
    """By the membership that the session names, else by the oldest; None when there is none in force any more."""
    with scoping.platform():
        found = list(selectors.memberships_in_force(user_id=request.user.pk))
    if not found:
        return None
    chosen = request.session.get(SESSION_KEY)
    membership = next((one for one in found if one.public_id == chosen), found[0])
    return Entry(membership, [one for one in found if one != membership])


@require_POST
def choose(request: HttpRequest) -> HttpResponse:
    """Work for another of one's tenants from now on. Raises Http404 for a membership that is not one's own."""
    with scoping.platform():
        own = selectors.memberships_in_force(user_id=request.user.pk)
        try:
            membership = Membership.pick(own, request.POST.get("membership", ""))
        except NotFound:
            raise Http404 from None
    request.session[SESSION_KEY] = membership.public_id
    return redirect("admin:index")


def context(_: HttpRequest) -> dict[str, Any]:
    """For every template: the membership in force, and the others of the same person."""
    entry = in_force()
    return {"membership": entry.membership, "other_memberships": entry.others} if entry else {}


def header(_: HttpRequest) -> list[str] | None:
    """The label in the console's header: whom a member works for, and in which role."""
    entry = in_force()
    return [f"{entry.membership.tenant} · {entry.membership.role}", "info"] if entry else None


def shows_history(_: HttpRequest) -> bool:
    """Django's own log of the console is no tenant's table: members have the audit record instead."""
    return in_force() is None
