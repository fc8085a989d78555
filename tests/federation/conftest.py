"""People at the console, and rounds for them to look at."""

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from federation.models import (
    FederatedRound,
    Federation,
    PrefixVersion,
)
from tenants import scoping
from tests.factories import (
    ApiKeyFactory,
    CampaignFactory,
    MembershipFactory,
    PersonalPrefixFactory,
    PublishRecordFactory,
    ScheduleFactory,
    UserFactory,
    WebhookDeliveryFactory,
    WebhookEndpointFactory,
    ready_federation,
)
from tests.federation import rounds
from tests.federation.console import signed_in


@pytest.fixture
def operator(db: None) -> Client:
    """A signed-in operator who may do everything."""
    return signed_in(UserFactory.create(username="ops@example.com", is_staff=True, is_superuser=True))


@pytest.fixture
def viewer(db: None) -> Client:
    """Staff that may view everything and do nothing."""
    person = UserFactory.create(is_staff=True)
    person.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    return signed_in(person)


@pytest.fixture
def federation(db: None) -> Federation:
    """Three active tenants, version 0 published."""
    return ready_federation()


@pytest.fixture
def live_round(federation: Federation) -> FederatedRound:
    """A round in training."""
    return rounds.start(federation)


@pytest.fixture
def published_round(federation: Federation) -> FederatedRound:
    """A round whose candidate was published as version 1."""
    started = rounds.start(federation)
    rounds.train_all(started)
    rounds.score_all(started, parent=0.7, candidate=0.8)
    return rounds.reload(started)


@pytest.fixture
def rows_of_all_kinds(published_round: FederatedRound) -> None:
    """At least one row of every model that has a page."""
    CampaignFactory.create(
        federation=published_round.federation, state="completed", finished_at=published_round.finished_at
    )
    ScheduleFactory.create(federation=published_round.federation)
    MembershipFactory.create()
    ApiKeyFactory.create()
    WebhookDeliveryFactory.create(endpoint=WebhookEndpointFactory.create(tenant=None))
    with scoping.platform():
        version = PrefixVersion.objects.get(number=0)
    PublishRecordFactory.create(new=version)
    PersonalPrefixFactory.create(version=version, state="completed", finished_at=published_round.finished_at)
