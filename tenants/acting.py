"""Who acts, and where the request came from: what the audit record says of a change besides the change itself.

Entry points (the API, the console, management commands) say it; services only read it. Where nobody has said anything
(ticker, coordinator, training workers) it is the platform that acts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from tenants.states import ActorKind


@dataclass(frozen=True, kw_only=True)
class Actor:
    """A person, a program or the platform. `credential` names the key or session that was used, never its secret.

    `rights` are what a person at the console holds, and may give to others (`tenants.rights`).
    """

    kind: ActorKind
    id: str = ""
    name: str = ""
    credential: str = ""
    rights: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The request that is being answered: the caller's address, and the request's id."""

    address: str = ""
    request_id: str = ""


_NOWHERE = Origin()
PLATFORM = Actor(kind=ActorKind.PLATFORM, name="platform")
_ACTOR: ContextVar[Actor] = ContextVar("acting_actor", default=PLATFORM)
_ORIGIN: ContextVar[Origin] = ContextVar("acting_origin", default=_NOWHERE)


def actor() -> Actor:
    """Who acts now."""
    return _ACTOR.get()


def origin() -> Origin:
    """Where the running request came from; empty outside of one."""
    return _ORIGIN.get()


@contextmanager
def by(actor: Actor) -> Iterator[None]:
    """What is done within is done by `actor`."""
    token = _ACTOR.set(actor)
    try:
        yield
    finally:
        _ACTOR.reset(token)


@contextmanager
def through(origin: Origin) -> Iterator[None]:
    """What is done within was asked for by the request of `origin`."""
    token = _ORIGIN.set(origin)
    try:
        yield
    finally:
        _ORIGIN.reset(token)
