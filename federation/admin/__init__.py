"""The console's pages of federations, rounds, the work within them, and what is published."""

from federation.admin import (
    base_models,
    campaigns,
    dashboard,
    enrolments,
    federations,
    limits,
    local_work,
    personal_prefixes,
    rounds,
    schedules,
    versions,
    webhooks,
)

__all__ = [
    "base_models",
    "campaigns",
    "dashboard",
    "enrolments",
    "federations",
    "limits",
    "local_work",
    "personal_prefixes",
    "rounds",
    "schedules",
    "versions",
    "webhooks",
]
