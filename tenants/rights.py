"""Who may do what: rights are words such as `datasets:read`, a role is a set of them, and so is an API key's reach.

This table is the only place that says it. The API checks it for each request, the console for each page and button,
and docs/rights.md is written from it.
"""

from collections.abc import Mapping
from typing import Final

from django.db import models

from tenants.states import Role


class Resource(models.TextChoices):
    """What rights are about.

    Campaigns, local runs, events and evaluations belong to their rounds; personal prefixes to their enrolments, and
    their bytes are read as those of prefix versions.
    """

    AUDIT = "audit"
    BASE_MODELS = "base_models"
    DATASETS = "datasets"
    ENROLMENTS = "enrolments"
    FEDERATIONS = "federations"
    KEYS = "keys"
    LIMITS = "limits"
    MEMBERS = "members"
    PREFIX_VERSIONS = "prefix_versions"
    ROUNDS = "rounds"
    SCHEDULES = "schedules"
    TENANTS = "tenants"
    USAGE = "usage"
    WEBHOOKS = "webhooks"


class Action(models.TextChoices):
    """What is done: writing is making, changing, ending and deleting. It does not imply reading."""

    READ = "read"
    WRITE = "write"


Right = str


def right(resource: Resource, action: Action) -> Right:
    """The right's word."""
    return f"{resource.value}:{action.value}"


def _reads(*resources: Resource) -> frozenset[Right]:
    return frozenset(right(resource, Action.READ) for resource in resources)


def _writes(*resources: Resource) -> frozenset[Right]:
    return frozenset(right(resource, Action.WRITE) for resource in resources)


_VIEWER: Final = _reads(
    Resource.BASE_MODELS,
    Resource.DATASETS,
    Resource.ENROLMENTS,
    Resource.FEDERATIONS,
    Resource.LIMITS,
    Resource.PREFIX_VERSIONS,
    Resource.ROUNDS,
    Resource.TENANTS,
    Resource.USAGE,
)
_ENGINEER: Final = (
    _VIEWER | _reads(Resource.WEBHOOKS) | _writes(Resource.DATASETS, Resource.ENROLMENTS, Resource.WEBHOOKS)
)
_AUDITOR: Final = _VIEWER | _reads(Resource.AUDIT, Resource.KEYS, Resource.MEMBERS, Resource.WEBHOOKS)

ROLE_RIGHTS: Final[Mapping[Role, frozenset[Right]]] = {
    Role.OWNER: _ENGINEER | _AUDITOR | _writes(Resource.KEYS, Resource.MEMBERS),
    Role.ENGINEER: _ENGINEER,
    Role.VIEWER: _VIEWER,
    Role.AUDITOR: _AUDITOR,
}
"""What a tenant's people may do, within their tenant. No tenant's key holds more than the owner's rights."""

OPERATOR_RIGHTS: Final[frozenset[Right]] = frozenset(
    right(resource, action) for resource in Resource for action in Action
)
"""What an operator's key may hold: everything, across tenants."""

RIGHT_CHOICES: Final = tuple((word, word) for word in sorted(OPERATOR_RIGHTS))
"""The vocabulary, for fields that take a right."""
