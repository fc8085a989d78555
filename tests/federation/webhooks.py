"""Webhooks and what they are told of, for tests."""

from typing import Any

from federation.models import FederatedRound, Federation
from federation.services import webhooks
from federation.services.webhooks import NewSecret
from tenants import scoping
from tenants.models import Tenant
from tests.factories import EnrolmentFactory, FederatedRoundFactory, RoundEventFactory, ready_federation


def webhook(tenant: Tenant | None, url: str, *kinds: str) -> NewSecret:
    """A webhook of the tenant, or of the operators, and its first secret."""
    with scoping.platform():
        return webhooks.create_webhook(
            tenant=tenant, fields={"url": url, "kinds": list(kinds), "description": ""}
        )


def happens(federation: Federation, kind: str = "round.published", **facts: Any) -> None:
    """An event in the federation's round."""
    with scoping.platform():
        version = federation.published.version
        found = FederatedRound.objects.filter(federation=federation).first()
    federated_round = found or FederatedRoundFactory.create(parent_version=version)
    RoundEventFactory.create(federated_round=federated_round, kind=kind, **facts)


def federation_of(tenant: Tenant) -> Federation:
    """One that the tenant takes part in."""
    federation = ready_federation(n_tenants=1, quorum=2)
    EnrolmentFactory.create(federation=federation, tenant=tenant)
    return federation
