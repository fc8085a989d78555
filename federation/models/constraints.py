"""Constraints that state machines share, so that the database refuses what Python should never write."""

from collections.abc import Collection, Iterable

from django.db import models
from django.db.models import Q


def state_constraints(
    name: str, states: Iterable[str], terminal: Collection[str]
) -> list[models.CheckConstraint]:
    """The state is a known one, and `finished_at` is set if and only if it is terminal."""
    return [
        models.CheckConstraint(condition=Q(state__in=list(states)), name=f"{name}_state_known"),
        models.CheckConstraint(
            condition=Q(state__in=list(terminal), finished_at__isnull=False)
            | (~Q(state__in=list(terminal)) & Q(finished_at=None)),
            name=f"{name}_finished_at_iff_terminal",
        ),
    ]
