"""The console's pages: rows, charts and progress, buttons that call services, and what a viewer may not do."""

import re
from pathlib import Path

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection, models
from django.template.response import TemplateResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.html import escape

from federation import tasks
from federation.models import (
    BaseModel,
    Campaign,
    Enrolment,
    FederatedRound,
    Federation,
    LocalRun,
    PrefixVersion,
    PublishRecord,
    Schedule,
)
from federation.selectors import charts
from federation.states import RoundState
from tenants import scoping
from tenants.admin.rows import change_url
from tenants.models import ApiKey, Dataset, Membership, Tenant
from tests.factories import (
    ApiKeyFactory,
    DatasetFactory,
    EvaluationFactory,
    MembershipFactory,
    PrefixVersionFactory,
    PublishRecordFactory,
    ScheduleFactory,
    UserFactory,
    ready_federation,
)
from tests.federation import rounds
from tests.federation.console import (
    OPERATOR,
    OUTSIDE,
    PAGES,
    action_url,
    add_url,
    first,
    list_url,
    signed_in,
    text_of,
)


def test_every_list_and_every_row_has_a_page_without_anything_from_outside(
    operator: Client, rows_of_all_kinds: None
) -> None:
    assert len(PAGES) == 19
    for model in PAGES:
        page = text_of(operator.get(list_url(model)))
        assert "result_list" in page, model
        assert not OUTSIDE.search(page), model
        assert not OUTSIDE.search(text_of(operator.get(change_url(first(model))))), model


def test_a_list_costs_the_same_queries_however_many_rows_it_shows(
    operator: Client, rows_of_all_kinds: None
) -> None:
    def n_queries(model: type[models.Model]) -> int:
        with CaptureQueriesContext(connection) as queries:
            text_of(operator.get(list_url(model)))
        return len(queries)

    n_queries(Tenant)  # content types and the like are remembered from here on
    few = {model: n_queries(model) for model in PAGES}
    for _ in range(2):
        federation = ready_federation()
        rounds.start(federation)
        ScheduleFactory.create(federation=federation)
        MembershipFactory.create()
        ApiKeyFactory.create()
        with scoping.platform():
            PublishRecordFactory.create(new=federation.published.version)
    assert {model: n_queries(model) for model in PAGES} == few


def test_a_federations_page_costs_the_same_queries_with_more_versions_and_rounds(
    operator: Client, published_round: FederatedRound
) -> None:
    def n_queries() -> int:
        with CaptureQueriesContext(connection) as queries:
            text_of(operator.get(change_url(published_round.federation)))
        return len(queries)

    n_queries()
    few = n_queries()
    another = rounds.start(published_round.federation)
    rounds.train_all(another)
    rounds.score_all(another, parent=0.8, candidate=0.9)
    assert n_queries() == few


def test_static_files_of_the_console_name_no_other_machine() -> None:
    folder = Path(__file__).resolve().parents[2] / "federation" / "static" / "console"
    files = [path for path in folder.iterdir() if path.suffix in (".css", ".js")]
    assert len(files) == 3
    assert not [path.name for path in files if re.search(r"https?://", path.read_text())]


def test_a_row_is_found_by_its_public_id(operator: Client, acme: Tenant, globex: Tenant) -> None:
    page = text_of(operator.get(list_url(Tenant), {"q": acme.public_id}))
    assert "Acme" in page
    assert "Globex" not in page


def test_a_datasets_labels_are_shown_to_its_members_alone(operator: Client, acme: Tenant) -> None:
    row = DatasetFactory.create(tenant=acme, facts={"n_rows": 70, "labels": {"overdue": 41, "paid": 29}})
    member = signed_in(MembershipFactory.create(tenant=acme).user)
    guess = f"{list_url(Dataset)}?facts__labels__overdue__gt=40"
    assert "overdue" in text_of(member.get(change_url(row)))
    assert member.get(guess).status_code == 200
    page = text_of(operator.get(change_url(row)))
    assert "n_rows" in page
    assert "overdue" not in page
    assert operator.get(guess).status_code in (302, 400)


def test_the_dashboard_counts_and_shows_live_and_ended_rounds(
    operator: Client, published_round: FederatedRound
) -> None:
    live = rounds.start(ready_federation())
    page = text_of(operator.get(reverse("admin:index")))
    assert change_url(live) in page
    assert "0 of 3 tenants have trained" in page
    assert escape(published_round.state_reason) in page
    assert "3 waiting" in page or "running" in page
    assert not OUTSIDE.search(page)


def test_the_dashboard_shows_nothing_to_staff_without_permissions(
    published_round: FederatedRound, db: None
) -> None:
    page = text_of(signed_in(UserFactory.create(is_staff=True)).get(reverse("admin:index")))
    assert "not see rounds" in page
    assert str(published_round.federation) not in page


def test_who_is_not_signed_in_is_sent_to_the_login(live_round: FederatedRound) -> None:
    response = Client().get(change_url(live_round))
    assert response.status_code == 302
    assert response["Location"].startswith(reverse("admin:login"))


def test_the_start_button_starts_a_round_and_leads_to_it(operator: Client, federation: Federation) -> None:
    assert "Start round" in text_of(operator.get(change_url(federation)))
    response = operator.post(action_url(federation, "start_round"))
    with scoping.platform():
        started = FederatedRound.objects.get(federation=federation)
    assert response["Location"] == change_url(started)
    assert started.state == RoundState.TRAINING
    assert "Start round" not in text_of(operator.get(change_url(federation)))
    assert LogEntry.objects.get().change_message == f"Round 1 of {federation} has begun."


def test_a_refused_start_is_told_and_changes_nothing(operator: Client, live_round: FederatedRound) -> None:
    response = operator.post(action_url(live_round.federation, "start_round"), follow=True)
    assert "has a round in progress" in text_of(response)
    with scoping.platform():
        assert FederatedRound.objects.count() == 1
    assert not LogEntry.objects.exists()


def test_the_cancel_button_cancels_and_names_the_operator(
    operator: Client, live_round: FederatedRound
) -> None:
    assert "Cancel round" in text_of(operator.get(change_url(live_round)))
    response = operator.post(action_url(live_round, "cancel"), follow=True)
    ended = rounds.reload(live_round)
    assert (ended.state, ended.state_reason) == (RoundState.CANCELED, f"Canceled by {OPERATOR}.")
    assert "Cancel round" not in text_of(response).replace("Cancel round?", "")
    again = operator.post(action_url(live_round, "cancel"), follow=True)
    assert "is canceled and cannot become canceled" in text_of(again)


def test_a_roll_back_moves_the_pointer_and_records_the_operator(
    operator: Client, published_round: FederatedRound
) -> None:
    federation = published_round.federation
    with scoping.platform():
        start = PrefixVersion.objects.get(federation=federation, number=0)
    assert (
        text_of(operator.get(change_url(federation))).count(
            '<form method="post" action="/console/federation/prefixversion/'
        )
        == 1
    )
    response = operator.post(action_url(start, "roll_back"))
    assert response["Location"] == change_url(federation)
    with scoping.platform():
        record = PublishRecord.objects.filter(federation=federation).first()
        assert record is not None
        assert (record.new, record.actor, record.reason) == (start, OPERATOR, "roll-back")
        assert Federation.objects.get(pk=federation.pk).published.version == start
    again = operator.post(action_url(start, "roll_back"), follow=True)
    assert "is the published one already" in text_of(again)


def test_a_viewer_sees_everything_and_can_change_nothing(
    viewer: Client, rows_of_all_kinds: None, published_round: FederatedRound
) -> None:
    federation = published_round.federation
    live = rounds.start(federation)
    with scoping.platform():
        version = PrefixVersion.objects.get(federation=federation, number=0)
        key, enrolment = ApiKey.objects.get(), Enrolment.objects.select_related("tenant").first()
        membership, schedule = Membership.objects.get(), Schedule.objects.get()
        campaign = Campaign.objects.get()
    assert enrolment is not None
    for page in (reverse("admin:index"), change_url(federation), change_url(live)):
        assert 'method="post" action="/console/federation' not in text_of(viewer.get(page))
    for url in (
        action_url(federation, "start_round"),
        action_url(live, "cancel"),
        action_url(campaign, "cancel"),
        action_url(version, "roll_back"),
        action_url(schedule, "remove"),
        action_url(enrolment, "leave"),
        action_url(key, "revoke"),
        action_url(enrolment.tenant, "suspend"),
        action_url(enrolment.tenant, "lift_suspension"),
        action_url(membership, "remove"),
        *(
            add_url(model)
            for model in (Tenant, BaseModel, Campaign, Federation, Enrolment, Schedule, ApiKey, Membership)
        ),
    ):
        assert viewer.post(url).status_code == 403, url
    assert rounds.reload(live).state == RoundState.TRAINING
    with scoping.platform():
        assert ApiKey.objects.get().revoked_at is None
        assert Schedule.objects.exists()
        assert Membership.objects.exists()


def test_somebody_without_the_view_permission_sees_no_round(live_round: FederatedRound) -> None:
    nobody = signed_in(UserFactory.create(is_staff=True))
    progress = reverse("admin:federation_federatedround_progress", args=[live_round.pk])
    for url in (change_url(live_round), progress, change_url(live_round.federation)):
        assert nobody.get(url).status_code == 403


def test_buttons_take_posts_with_a_token_alone(operator: Client, federation: Federation) -> None:
    url = action_url(federation, "start_round")
    assert operator.get(url).status_code == 405
    with_checks = signed_in(User.objects.get(username="ops@example.com"), enforce_csrf_checks=True)
    assert with_checks.post(url).status_code == 403
    with scoping.platform():
        assert not FederatedRound.objects.exists()


def test_nothing_is_changed_or_deleted_by_the_generic_forms(
    operator: Client, rows_of_all_kinds: None
) -> None:
    for model in PAGES:
        row = first(model)
        delete = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_delete", args=[row.pk])
        assert operator.post(delete, {"post": "yes"}).status_code == 403, model
        assert operator.post(change_url(row), {"name": "other"}).status_code in (403, 405), model
        assert first(model).pk == row.pk


def test_the_progress_of_a_live_round_renews_itself_and_stops_at_the_end(
    operator: Client, live_round: FederatedRound
) -> None:
    progress = reverse("admin:federation_federatedround_progress", args=[live_round.pk])
    claimed = rounds.claim(rounds.runs_of(live_round)[0])
    with scoping.tenant(claimed.tenant_id):
        claimed.keep(
            progress={
                "phase": "training",
                "step": 3,
                "n_steps": 12,
                "loss": 1.25,
                "tokens_per_second": 1234.5,
            },
            history=[[1, 2.5], [2, 1.75], [3, 1.25]],
        )
    response = operator.get(progress)
    page = text_of(response)
    follows = reverse("console_events", args=[live_round.public_id])
    assert f'hx-get="{progress}" hx-trigger="renew" hx-swap="outerHTML" data-follows="{follows}"' in page
    assert "3 / 12 steps" in page
    assert "width: 25%" in page
    assert "1.250" in page
    assert "1,234" in page
    assert "HX-Refresh" not in response
    operator.post(action_url(live_round, "cancel"))
    ended = operator.get(progress)
    assert "hx-trigger" not in text_of(ended)
    assert ended["HX-Refresh"] == "true"


def test_a_finished_round_tells_phases_scores_and_its_reason(
    operator: Client, published_round: FederatedRound
) -> None:
    response = operator.get(change_url(published_round))
    page = text_of(response)
    assert isinstance(response, TemplateResponse)
    assert response.context_data is not None
    progress = response.context_data["progress"]
    assert [phase.status for phase in progress.phases] == ["done"] * 4
    assert progress.n_accepted == 3
    assert (progress.mean_incumbent, progress.mean_candidate) == (pytest.approx(0.7), pytest.approx(0.8))
    assert page.count("80.0 %") >= 3
    assert "+10.0" in page
    assert "The gate published the candidate" in page


def test_a_rejected_run_tells_why(operator: Client, live_round: FederatedRound) -> None:
    claimed = rounds.claim(rounds.runs_of(live_round)[0])
    rounds.submit(claimed, rounds.update_bytes(claimed, rounds.change(0, scale=100.0)))
    page = text_of(operator.get(change_url(live_round)))
    assert "update_norm_too_large" in page
    assert "at most 0.3 counts" in page


def test_the_line_about_the_live_round_asks_for_a_new_page_when_none_is_left(
    operator: Client, live_round: FederatedRound
) -> None:
    live = reverse("admin:federation_federation_live", args=[live_round.federation.pk])
    assert "Round 1" in text_of(operator.get(live))
    operator.post(action_url(live_round, "cancel"))
    assert operator.get(live)["HX-Refresh"] == "true"


def test_the_charts_of_a_federation_hold_its_numbers(
    operator: Client, published_round: FederatedRound
) -> None:
    response = operator.get(change_url(published_round.federation))
    assert isinstance(response, TemplateResponse)
    shown = response.context_data
    assert shown is not None
    assert shown["accuracy"]["labels"] == ["base", "v0", "v1"]
    assert shown["accuracy"]["published"] == "v1"
    assert shown["accuracy"]["mean"] == [None, pytest.approx(0.7), pytest.approx(0.8)]
    assert shown["accuracy"]["n_scores"] == [0, 3, 3]
    assert [line["values"] for line in shown["accuracy"]["tenants"]] == [[None, 0.7, 0.8]] * 3
    with scoping.platform():
        runs = LocalRun.objects.filter(federated_round=published_round)
        up = sum(run.update_size_bytes or 0 for run in runs)
        sizes = {version.number: version.size_bytes for version in PrefixVersion.objects.all()}
    assert shown["bytes"] == {"labels": ["1"], "up": [up], "down": [3 * sizes[0] + 3 * sizes[1]]}
    assert shown["gain"] is None  # nobody has measured the base model
    assert [entry.is_published for entry in shown["versions"]] == [True, False]
    assert 'id="accuracy-data"' in text_of(response)


def test_a_campaign_is_started_watched_and_canceled_on_its_federations_page(
    operator: Client, federation: Federation
) -> None:
    form = {"federation": str(federation.pk), "n_rounds": "30", "patience": "5", "evaluate_every": "1"}
    started = operator.post(add_url(Campaign), form, follow=True)
    assert "The campaign of 30 rounds of" in text_of(started)
    with scoping.platform():
        campaign = Campaign.objects.get(federation=federation)
        live = FederatedRound.objects.get(campaign=campaign)
    rounds.train_all(live)
    rounds.score_all(live, parent=0.5, candidate=0.75)
    tasks.advance_campaign(campaign.public_id)
    for address in (change_url(federation), change_url(campaign)):
        page = text_of(operator.get(address))
        assert "1 of 30" in page
        assert "75.0 %" in page
    assert f'data-follows="{reverse("console_events", args=[campaign.public_id])}"' in page
    page = text_of(operator.get(change_url(federation)))
    assert action_url(federation, "start_round") not in page
    with scoping.platform():
        live = FederatedRound.objects.get(campaign=campaign, finished_at=None)
    of_round = text_of(operator.get(change_url(live)))
    assert change_url(campaign) in of_round
    assert action_url(live, "cancel") not in of_round
    operator.post(action_url(campaign, "cancel"))
    with scoping.platform():
        canceled = Campaign.objects.get()
    assert (canceled.state, canceled.state_reason) == ("canceled", f"Canceled by {OPERATOR}.")
    assert rounds.reload(live).state == RoundState.CANCELED
    ended = operator.get(action_url(campaign, "progress"))
    assert "data-follows" not in text_of(ended)
    assert ended["HX-Refresh"] == "true"


def test_the_published_version_stays_in_the_chart_however_many_follow(
    operator: Client, published_round: FederatedRound
) -> None:
    federation = published_round.federation
    for number in range(2, 41):
        PrefixVersionFactory.create(
            federation=federation, number=number, parent=published_round.parent_version
        )
    response = operator.get(change_url(federation))
    assert isinstance(response, TemplateResponse)
    assert response.context_data is not None
    assert response.context_data["accuracy"]["labels"] == ["base", "v1", *(f"v{n}" for n in range(11, 41))]
    assert response.context_data["published_mean"] == pytest.approx(0.8)


def test_scores_of_versions_that_a_chart_does_not_show_are_not_read(
    published_round: FederatedRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = published_round.federation
    monkeypatch.setattr(charts, "MOST", 1)
    with scoping.platform():
        shown = charts.accuracy_by_version(federation=federation)
    assert [line.values for line in shown.tenants] == [[None, 0.8]] * 3
    gone = EvaluationFactory.create(version=published_round.parent_version)
    with scoping.platform():
        again = charts.accuracy_by_version(federation=federation)
    assert gone.tenant.name not in [line.name for line in again.tenants]


def test_a_chart_shows_the_loss_of_every_run_of_the_newest_round(
    operator: Client, live_round: FederatedRound
) -> None:
    run = rounds.runs_of(live_round)[0]
    with scoping.platform():
        LocalRun.objects.filter(pk=run.pk).update(history=[[1, 2.0], [2, 1.5]])
    response = operator.get(change_url(live_round.federation))
    assert isinstance(response, TemplateResponse)
    assert response.context_data is not None
    assert response.context_data["losses"] == [{"name": run.tenant.name, "points": [(1, 2.0), (2, 1.5)]}]
    assert response.context_data["loss_round"] == live_round
