"""The console's pages of personal prefixes: a tenant's own to its members, and to operators without their scores."""

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from federation.models import Enrolment, PersonalPrefix, PrefixVersion
from federation.states import PersonalPrefixState
from tenants import scoping
from tenants.admin.rows import change_url
from tenants.models import AuditEntry, Tenant
from tenants.states import Role
from tests.factories import EnrolmentFactory, MembershipFactory, PersonalPrefixFactory, ready_federation
from tests.federation.console import action_url, add_url, list_url, signed_in, text_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def engineer(acme: Tenant) -> Client:
    return signed_in(MembershipFactory.create(tenant=acme, role=Role.ENGINEER).user)


@pytest.fixture
def place(acme: Tenant) -> Enrolment:
    """Acme's, in a federation of its own."""
    return EnrolmentFactory.create(tenant=acme, federation=ready_federation(n_tenants=0))


def published(place: Enrolment) -> PrefixVersion:
    with scoping.platform():
        return place.federation.published.version


def grown(place: Enrolment, **columns: Any) -> PersonalPrefix:
    """A completed one, better than the shared version by 12.5 points."""
    scores = {
        "shared_accuracy": 0.625,
        "accuracy": 0.75,
        "shared_loss": 0.5625,
        "loss": 0.4375,
        "n_rows": 1_234,
    }
    return PersonalPrefixFactory.create(
        version=published(place),
        enrolment=place,
        state=PersonalPrefixState.COMPLETED,
        finished_at=timezone.now(),
        **{**scores, **columns},
    )


def made() -> PersonalPrefix:
    with scoping.platform():
        return PersonalPrefix.objects.select_related("version").get()


def errors_of(answer: Any) -> dict[str, Any]:
    """What a form that was answered finds wrong, by field."""
    errors: dict[str, Any] = answer.context_data["form"].errors
    return errors


def test_a_member_has_one_grown_from_the_published_version(engineer: Client, place: Enrolment) -> None:
    federation = place.federation
    assert f"{add_url(PersonalPrefix)}?federation={federation.pk}" in text_of(
        engineer.get(change_url(federation))
    )
    answer = engineer.post(
        add_url(PersonalPrefix),
        {"federation": str(federation.pk), "rule": "ditto", "n_steps": "7", "proximal": "0.5"},
        follow=True,
    )
    assert "A worker grows a personal prefix from" in text_of(answer)
    row = made()
    assert (row.tenant_id, row.version, row.rule) == (place.tenant_id, published(place), "ditto")
    assert (row.n_steps, row.proximal, row.learning_rate) == (7, 0.5, 0.005)
    with scoping.platform():
        entry = AuditEntry.objects.get(action="personal_prefix.requested")
    assert (entry.actor_kind, entry.tenant_id) == ("member", place.tenant_id)


def test_what_a_rule_does_not_take_is_told_at_its_field(engineer: Client, place: Enrolment) -> None:
    form = {"federation": str(place.federation.pk), "rule": "prior", "n_steps": "7"}
    answer = engineer.post(add_url(PersonalPrefix), form)
    assert set(errors_of(answer)) == {"n_steps"}
    assert "n_steps is no setting of it" in text_of(answer)
    with scoping.platform():
        assert not PersonalPrefix.objects.exists()


def test_versions_are_offered_of_federations_with_a_place_alone(engineer: Client, place: Enrolment) -> None:
    invited = EnrolmentFactory.create(
        tenant=place.tenant, federation=ready_federation(n_tenants=0), state="invited", dataset=None
    )
    page = text_of(engineer.get(add_url(PersonalPrefix)))
    assert str(published(place).pk) in page
    assert str(published(invited).pk) not in page
    form = {"federation": str(place.federation.pk), "version": str(published(invited).pk), "rule": "prior"}
    assert set(errors_of(engineer.post(add_url(PersonalPrefix), form))) == {"version"}


def test_a_member_sees_both_scores(engineer: Client, place: Enrolment) -> None:
    row = grown(place)
    for url in (list_url(PersonalPrefix), change_url(row), change_url(place.federation)):
        page = text_of(engineer.get(url))
        assert "62.5 %" in page, url
        assert "75.0 %" in page, url
        assert "+12.5" in page, url
    page = text_of(engineer.get(change_url(row)))
    assert "0.562" in page
    assert "0.438" in page


def test_an_operator_sees_that_it_is_there_and_no_score(operator: Client, place: Enrolment) -> None:
    row = grown(place)
    for url in (list_url(PersonalPrefix), change_url(row)):
        page = text_of(operator.get(url))
        assert "completed" in page, url
        for score in ("62.5", "75.0", "0.562", "0.438", "1,234", "12.5"):
            assert score not in page, url
    assert "Personal prefixes of" not in text_of(operator.get(change_url(place.federation)))


@pytest.mark.parametrize(
    "guess", ["accuracy__gt=0.7", "shared_loss__lt=1", "n_rows=1234", "size_bytes__gt=1"]
)
def test_an_operator_cannot_ask_for_scores_by_a_filter(
    operator: Client, place: Enrolment, guess: str
) -> None:
    row = grown(place)
    answer = operator.get(f"{list_url(PersonalPrefix)}?{guess}")
    assert answer.status_code in (302, 400)
    assert row.public_id in text_of(operator.get(f"{list_url(PersonalPrefix)}?state__exact=completed"))


def test_an_operator_neither_grows_nor_deletes_in_a_tenants_place(operator: Client, place: Enrolment) -> None:
    row = grown(place)
    form = {"federation": str(place.federation.pk), "rule": "prior"}
    assert operator.post(add_url(PersonalPrefix), form).status_code == 403
    assert operator.post(action_url(row, "remove")).status_code == 403
    assert "Delete personal prefix" not in text_of(operator.get(change_url(row)))
    assert made() == row


def test_a_member_deletes_its_own_and_reaches_no_other(
    engineer: Client, place: Enrolment, globex: Tenant
) -> None:
    other = EnrolmentFactory.create(tenant=globex, federation=place.federation)
    own, foreign = PersonalPrefixFactory.create(version=published(place), enrolment=place), grown(other)
    assert engineer.post(action_url(foreign, "remove")).status_code == 404
    assert foreign.public_id not in text_of(engineer.get(list_url(PersonalPrefix)))
    answer = engineer.post(action_url(own, "remove"))
    assert answer["Location"] == list_url(PersonalPrefix)
    assert made() == foreign
