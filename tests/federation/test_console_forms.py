"""The console's forms: each calls a service, and a refusal is told where it belongs."""

import json
import re
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.template.response import TemplateResponse
from django.test import Client
from django.urls import reverse
from django.utils.html import escape

from federation.admin.federation_form import IndentedJson
from federation.models import (
    BaseModel,
    Enrolment,
    FederatedRound,
    Federation,
    Schedule,
)
from federation.presets import PRESETS
from federation.selectors import standing
from federation.services import schedules
from federation.services.schedules import next_times
from federation.specification import EXAMPLE
from federation.states import EnrolmentState
from tenants import scoping
from tenants.admin.rows import change_url
from tenants.models import ApiKey, Dataset, Membership, Tenant
from tenants.services.api_keys import authenticate
from tenants.states import TenantState
from tests.factories import (
    ApiKeyFactory,
    BaseModelFactory,
    DatasetFactory,
    EvaluationFactory,
    ScheduleFactory,
)
from tests.federation.console import (
    action_url,
    add_url,
    list_url,
    text_of,
)


def test_a_tenant_is_added_and_a_taken_slug_is_shown_at_its_field(operator: Client, acme: Tenant) -> None:
    operator.post(add_url(Tenant), {"name": "Hooli", "slug": "hooli"})
    with scoping.platform():
        assert Tenant.objects.get(slug="hooli").wrapped_data_key
    response = operator.post(add_url(Tenant), {"name": "Other", "slug": "acme"})
    assert "exists already; choose another" in errors_of(response)["slug"]


def errors_of(response: Any) -> dict[str, str]:
    assert response.status_code == 200
    return {name: " ".join(texts) for name, texts in response.context_data["form"].errors.items()}


def test_a_federation_is_made_from_the_example(operator: Client) -> None:
    base = BaseModelFactory.create()
    assert "n_virtual_tokens" in text_of(operator.get(add_url(Federation)))
    body = {"name": "Reviews", "base_model": str(base.pk), "specification": json.dumps(EXAMPLE.as_json())}
    response = operator.post(add_url(Federation), body)
    with scoping.platform():
        made = Federation.objects.get(name="Reviews")
    assert response["Location"] == change_url(made)
    assert made.rules.round.quorum == 2
    taken = operator.post(add_url(Federation), body)
    assert "exists already" in errors_of(taken)["name"]


def test_the_form_offers_presets_and_begins_with_the_first(operator: Client) -> None:
    page = text_of(operator.get(add_url(Federation)))
    assert 'data-fills="id_specification"' in page
    for preset in PRESETS:
        assert f'<option value="{preset.name}"' in page
    text = IndentedJson().encode(PRESETS[0].specification.as_json())
    assert escape(text) in page


@pytest.mark.parametrize(
    ("specification", "told"),
    [
        (json.dumps({**EXAMPLE.as_json(), "round": {"quorum": 0}}), "round.quorum"),
        (json.dumps({**EXAMPLE.as_json(), "method": {"kind": "magic"}}), "method"),
        ('{"method": ', "valid JSON"),
    ],
)
def test_a_faulty_specification_is_told_at_its_field(operator: Client, specification: str, told: str) -> None:
    body = {
        "name": "Reviews",
        "base_model": str(BaseModelFactory.create().pk),
        "specification": specification,
    }
    response = operator.post(add_url(Federation), body)
    assert told in errors_of(response)["specification"]
    with scoping.platform():
        assert not Federation.objects.exists()


def test_a_base_model_is_registered_and_a_path_outside_is_refused(operator: Client) -> None:
    body = {"name": "tiny", "directory": "tiny", "source": "a test", "licence": "none"}
    operator.post(add_url(BaseModel), body)
    with scoping.platform():
        assert BaseModel.objects.get().state == "registering"
    response = operator.post(add_url(BaseModel), {**body, "name": "other", "directory": "../../etc"})
    assert "no relative path" in errors_of(response)["directory"]


def test_a_tenant_is_invited_once_and_can_be_made_to_leave(
    operator: Client, federation: Federation, acme: Tenant
) -> None:
    body = {"federation": str(federation.pk), "tenant": str(acme.pk)}
    operator.post(add_url(Enrolment), body)
    with scoping.platform():
        place = Enrolment.objects.get(tenant=acme)
    assert place.state == EnrolmentState.INVITED
    assert "already" in errors_of(operator.post(add_url(Enrolment), body))["tenant"]
    operator.post(action_url(place, "leave"))
    with scoping.platform():
        assert Enrolment.objects.get(tenant=acme).state == EnrolmentState.LEFT


def test_a_schedule_is_set_shown_with_three_times_and_removed(
    operator: Client, federation: Federation
) -> None:
    body = {"federation": str(federation.pk), "every_minutes": "", "cron": "30 2 * * *", "time_zone": "UTC"}
    operator.post(add_url(Schedule), body)
    response = operator.get(change_url(federation))
    assert isinstance(response, TemplateResponse)
    assert response.context_data is not None
    times = response.context_data["next_times"]
    assert [(time.hour, time.minute) for time in times] == [(2, 30)] * 3
    assert (times[2] - times[0]).days == 2
    with scoping.platform():
        schedule = Schedule.objects.get()
    operator.post(action_url(schedule, "remove"))
    with scoping.platform():
        assert not Schedule.objects.exists()


def test_a_tenant_is_suspended_and_that_is_lifted(operator: Client, acme: Tenant) -> None:
    for button, offered_next, state in (
        ("suspend", "Lift suspension", TenantState.SUSPENDED),
        ("lift_suspension", "Suspend", TenantState.ACTIVE),
    ):
        shown = text_of(operator.post(action_url(acme, button), follow=True))
        assert f">{offered_next}<" in re.sub(r"\s*([<>])\s*", r"\1", shown)
        with scoping.platform():
            assert Tenant.objects.get().state == state


def test_a_schedule_that_cannot_be_read_is_told_above_the_form(
    operator: Client, federation: Federation
) -> None:
    body = {"federation": str(federation.pk), "every_minutes": "5", "cron": "30 2 * * *", "time_zone": "UTC"}
    response = operator.post(add_url(Schedule), body)
    assert "either every_minutes or cron" in errors_of(response)["__all__"]


def test_a_key_is_shown_once_and_never_again(operator: Client, acme: Tenant) -> None:
    response = operator.post(add_url(ApiKey), {"tenant": str(acme.pk), "name": "nightly"})
    [text] = re.findall(r"prl_[0-9a-z]{26}_[\w-]+", text_of(response))
    assert "no-store" in response["Cache-Control"]
    with scoping.platform():
        key = authenticate(text)
        assert (key.tenant, key.name) == (acme, "nightly")
    secret = text.split("_", 2)[2]
    for page in (list_url(ApiKey), change_url(key), reverse("admin:index")):
        shown = text_of(operator.get(page))
        assert secret not in shown
        assert bytes(key.digest).hex() not in shown
    assert secret not in json.dumps([entry.change_message for entry in LogEntry.objects.all()])
    operator.post(action_url(key, "revoke"))
    with scoping.platform():
        assert ApiKey.objects.get().revoked_at is not None


def test_a_key_gets_the_rights_expiry_and_networks_that_are_filled_in(operator: Client, acme: Tenant) -> None:
    body = {
        "tenant": str(acme.pk),
        "name": "nightly",
        "rights": ["datasets:read", "audit:read"],
        "expires_at": "2999-01-31T12:00",
        "allowed_networks": "192.0.2.0/24\n2001:db8::1",
    }
    operator.post(add_url(ApiKey), body)
    with scoping.platform():
        key = ApiKey.objects.get()
    assert key.rights == ["audit:read", "datasets:read"]
    assert key.expires_at == datetime(2999, 1, 31, 12, tzinfo=UTC)
    assert key.allowed_networks == ["192.0.2.0/24", "2001:db8::1/128"]
    page = text_of(operator.get(change_url(key)))
    assert "audit:read, datasets:read" in page
    assert "192.0.2.0/24, 2001:db8::1/128" in page


@pytest.mark.parametrize(
    ("field", "value"),
    [("rights", "rounds:write"), ("expires_at", "1999-01-31T12:00"), ("allowed_networks", "10.0.0.1/8")],
)
def test_what_a_key_cannot_have_is_told_at_its_field(
    operator: Client, acme: Tenant, field: str, value: str
) -> None:
    body = {"tenant": str(acme.pk), "name": "nightly", field: value}
    assert field in errors_of(operator.post(add_url(ApiKey), body))
    with scoping.platform():
        assert not ApiKey.objects.exists()


def test_a_rotated_keys_successor_is_shown_once(operator: Client, acme: Tenant) -> None:
    old = ApiKeyFactory.create(tenant=acme, name="nightly")
    response = operator.post(action_url(old, "rotate"))
    [text] = re.findall(r"prl_[0-9a-z]{26}_[\w-]+", text_of(response))
    assert "no-store" in response["Cache-Control"]
    with scoping.platform():
        new = authenticate(text)
    assert (new.tenant, new.name, new.rights) == (acme, "nightly", old.rights)
    secret = text.split("_", 2)[2]
    for page in (list_url(ApiKey), change_url(new), change_url(old)):
        assert secret not in text_of(operator.get(page))
    again = operator.post(action_url(old, "rotate"), follow=True)
    assert "was rotated before" in text_of(again)
    with scoping.platform():
        assert ApiKey.objects.count() == 2


def test_a_member_is_added_and_removed(operator: Client, acme: Tenant) -> None:
    operator.post(
        add_url(Membership), {"tenant": str(acme.pk), "email": "Ann@Example.com", "role": "auditor"}
    )
    with scoping.platform():
        member = Membership.objects.select_related("user").get()
    assert (member.user.email, member.role) == ("ann@example.com", "auditor")
    operator.post(action_url(member, "remove"))
    with scoping.platform():
        assert not Membership.objects.exists()


def test_a_member_whose_address_is_too_long_for_an_account_is_refused(operator: Client, acme: Tenant) -> None:
    email = f"{'a' * 60}@{'b' * 60}.{'c' * 60}.example"
    page = text_of(
        operator.post(add_url(Membership), {"tenant": str(acme.pk), "email": email, "role": "auditor"})
    )
    assert "at most 150 characters" in page


def test_a_refused_dataset_tells_the_row_and_nothing_of_its_content(operator: Client, acme: Tenant) -> None:
    dataset = DatasetFactory.create(
        tenant=acme,
        state="refused",
        refusal_code="label_empty",
        state_reason="Row 17 has no label.",
        refusal_row=17,
    )
    page = text_of(operator.get(change_url(dataset)))
    assert "Row 17 has no label." in page
    assert "label_empty" in page
    assert dataset.blob_name not in page
    with scoping.platform():
        assert Dataset.objects.count() == 1


def test_users_and_groups_have_pages(operator: Client) -> None:
    for name in ("auth_user", "auth_group"):
        text_of(operator.get(reverse(f"admin:{name}_changelist")))
        text_of(operator.get(reverse(f"admin:{name}_add")))


def test_the_next_times_of_a_schedule_follow_one_another(federation: Federation) -> None:
    schedule = ScheduleFactory.create(federation=federation, every_minutes=10)
    times = next_times(schedule)
    assert [(after - before).total_seconds() for before, after in pairwise(times)] == [
        600,
        600,
    ]
    assert times[1] == schedules.next_due(every_minutes=10, cron="", time_zone="UTC", after=times[0])


def test_the_gain_is_taken_over_tenants_that_have_measured_both(published_round: FederatedRound) -> None:
    federation = published_round.federation
    with scoping.platform():
        places = list(Enrolment.objects.filter(federation=federation).select_related("dataset", "tenant"))
    for place, accuracy in zip(places[:2], (0.5, 0.9), strict=True):
        EvaluationFactory.create(
            federation=federation, version=None, dataset=place.dataset, tenant=place.tenant, accuracy=accuracy
        )
    with scoping.platform():
        found = standing.tenants(federation=federation, published=federation.published.version)
    assert [place.base for place in found].count(None) == 1
    assert standing.gain(found) == pytest.approx(((0.8 - 0.5) + (0.8 - 0.9)) / 2)
