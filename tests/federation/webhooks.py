"""Webhooks and what they are told of, for tests."""

from typing import Any

from federation.models import FederatedRound, Federation, WebhookAttempt, WebhookDelivery
from federation.services import announcing, webhooks
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


def announce_all() -> None:
    """Until nothing is due and nothing is on its way."""
    on_their_way: announcing.OnTheirWay = {}
    while announcing.announce(on_their_way):
        pass


def the_delivery() -> WebhookDelivery:
    """The only one."""
    with scoping.platform():
        return WebhookDelivery.objects.select_related("endpoint").get()


def attempts() -> list[WebhookAttempt]:
    """All, in their order."""
    with scoping.platform():
        return list(WebhookAttempt.objects.order_by("number"))
