"""Rounds that open by themselves: once for each due time, whatever tickers do."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from federation.errors import ScheduleInvalid
from federation.models import FederatedRound, Federation, Schedule
from federation.services import admission, rounds, schedules
from tenants import scoping
from tenants.errors import NotFound
from tests.factories import ScheduleFactory, ready_federation
from tests.federation import rounds as steps
from tests.racing import at_once

pytestmark = pytest.mark.django_db


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def open_due(now: datetime) -> int:
    with scoping.platform():
        return schedules.open_due_rounds(now=now)


def test_a_due_time_opens_exactly_one_round() -> None:
    federation = ready_federation()
    due = timezone.now()
    ScheduleFactory.create(federation=federation, every_minutes=10, next_due_at=due)
    assert [open_due(due) for _ in range(3)] == [1, 0, 0]
    with scoping.platform():
        federated_round = FederatedRound.objects.get(federation=federation)
        schedule = Schedule.objects.get()
    assert federated_round.due_at == due
    assert schedule.next_due_at == due + timedelta(minutes=10)


def test_missed_times_collapse_into_one_round_and_the_raster_is_kept() -> None:
    federation = ready_federation()
    due = at("2026-03-01T08:00:00")
    ScheduleFactory.create(federation=federation, every_minutes=10, next_due_at=due)
    assert open_due(at("2026-03-01T10:03:00")) == 1
    with scoping.platform():
        assert FederatedRound.objects.count() == 1
        assert Schedule.objects.get().next_due_at == at("2026-03-01T10:10:00")


def test_a_time_that_comes_while_a_round_is_live_is_skipped_with_its_reason() -> None:
    federation = ready_federation()
    steps.start(federation)
    ScheduleFactory.create(federation=federation, next_due_at=timezone.now())
    assert open_due(timezone.now()) == 0
    with scoping.platform():
        assert "skipped, round_in_progress" in Schedule.objects.get().last_outcome
        assert FederatedRound.objects.count() == 1


def test_any_number_of_tickers_open_one_round_for_each_due_time(transactional_db: None) -> None:
    federation = ready_federation()
    for minute in range(3):
        due = at(f"2026-03-01T08:0{minute}:00")
        with scoping.platform():
            Schedule.objects.all().delete()
        ScheduleFactory.create(federation=federation, every_minutes=1, next_due_at=due)
        assert sum(at_once(6, partial(open_due, due))) == 1
        with scoping.platform():
            [live] = FederatedRound.objects.filter(federation=federation, due_at=due)
            rounds.cancel_round(federated_round=live, actor="operator:anna")


def test_a_paused_schedule_opens_nothing_and_has_missed_nothing_when_it_is_resumed() -> None:
    federation = ready_federation()
    ScheduleFactory.create(federation=federation, every_minutes=10, next_due_at=at("2026-03-01T08:00:00"))
    with scoping.platform():
        schedule = schedules.pause_schedule(schedule=Schedule.objects.get())
        assert schedules.next_times(schedule) == []
        assert schedules.open_due_rounds(now=at("2026-03-01T09:05:00")) == 0
        schedule = schedules.resume_schedule(schedule=schedule, now=at("2026-03-01T09:05:00"))
        assert schedules.open_due_rounds(now=at("2026-03-01T09:05:00")) == 0
        times = [at(f"2026-03-01T09:{minute}:00") for minute in (10, 20, 30)]
        assert schedules.next_times(schedule) == times
        assert schedules.open_due_rounds(now=times[0]) == 1


def test_a_schedule_that_was_removed_meanwhile_is_not_paused() -> None:
    schedule = ScheduleFactory.create(federation=ready_federation())
    with scoping.platform():
        schedules.remove_schedule(federation=schedule.federation)
        with pytest.raises(NotFound):
            schedules.pause_schedule(schedule=schedule)


@pytest.mark.parametrize(
    ("after", "times"),
    [
        # The clocks go forward at 01:00 UTC: no 02:30 that night, its round opens as they have moved.
        ("2026-03-28T12:00:00", ["2026-03-29T01:00:00", "2026-03-30T00:30:00", "2026-03-31T00:30:00"]),
        # They go back at 01:00 UTC: 02:30 comes twice, its round opens once.
        ("2026-10-24T12:00:00", ["2026-10-25T00:30:00", "2026-10-26T01:30:00", "2026-10-27T01:30:00"]),
    ],
)
def test_each_night_of_a_change_of_clocks_has_one_round(after: str, times: list[str]) -> None:
    rule: dict[str, Any] = {"cron": "30 2 * * *", "time_zone": "Europe/Berlin"}
    schedule = ScheduleFactory.create(
        **rule, every_minutes=None, next_due_at=schedules.next_due(**rule, after=at(after))
    )
    assert schedules.next_times(schedule) == [at(time) for time in times]


def test_an_outage_over_a_change_of_clocks_opens_one_round() -> None:
    rule: dict[str, Any] = {"cron": "30 2 * * *", "time_zone": "Europe/Berlin"}
    due = schedules.next_due(**rule, after=at("2026-10-24T12:00:00"))
    ScheduleFactory.create(federation=ready_federation(), **rule, every_minutes=None, next_due_at=due)
    back = at("2026-10-25T01:10:00")  # in the second hour from 02:00 to 03:00
    assert [open_due(back + timedelta(seconds=second)) for second in range(3)] == [1, 0, 0]
    with scoping.platform():
        schedule = Schedule.objects.get()
    assert schedule.next_due_at == at("2026-10-26T01:30:00")
    assert "opened rnd_" in schedule.last_outcome


def test_a_finished_round_leaves_the_way_free_for_the_next_due_time() -> None:
    federation = ready_federation()
    first = steps.start(federation)
    with scoping.platform():
        rounds.cancel_round(federated_round=first, actor="operator:anna")
    ScheduleFactory.create(federation=federation, next_due_at=timezone.now())
    assert open_due(timezone.now()) == 1


@pytest.mark.parametrize(
    ("cron", "time_zone", "after", "due"),
    [
        ("30 9 * * *", "UTC", "2026-01-01T10:00:00", "2026-01-02T09:30:00"),
        ("30 9 * * *", "Europe/Berlin", "2026-01-01T00:00:00", "2026-01-01T08:30:00"),
        ("30 9 * * *", "Europe/Berlin", "2026-07-01T00:00:00", "2026-07-01T07:30:00"),
        # 02:30 does not exist on that night: it runs when the clocks have moved.
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T00:00:00", "2026-03-29T01:00:00"),
        # 02:30 comes twice on that night: it runs once.
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:45:00", "2026-10-26T01:30:00"),
        # In the second hour from 02:00 to 03:00 its time has been.
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:15:00", "2026-10-26T01:30:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:45:00", "2026-10-26T01:30:00"),
    ],
)
def test_cron_lines_are_read_in_their_time_zone(cron: str, time_zone: str, after: str, due: str) -> None:
    assert schedules.next_due(every_minutes=None, cron=cron, time_zone=time_zone, after=at(after)) == at(due)


@pytest.mark.parametrize(
    ("every_minutes", "cron", "time_zone"),
    [
        (None, "", "UTC"),
        (5, "* * * * *", "UTC"),
        (0, "", "UTC"),
        (366 * 24 * 60 + 1, "", "UTC"),
        (10**14, "", "UTC"),
        (None, "61 * * * *", "UTC"),
        (None, "* * * * * *", "UTC"),
        (None, "@daily", "UTC"),
        (None, "* * * * *", "Mars/X"),
    ],
)
def test_a_faulty_schedule_is_refused_and_nothing_is_kept(
    every_minutes: int | None, cron: str, time_zone: str
) -> None:
    federation = ready_federation()
    with scoping.platform():
        with pytest.raises(ScheduleInvalid):
            schedules.set_schedule(
                federation=federation,
                every_minutes=every_minutes,
                cron=cron,
                time_zone=time_zone,
                now=timezone.now(),
            )
        assert not Schedule.objects.exists()


def test_setting_a_schedule_again_replaces_it_and_removing_ends_it() -> None:
    federation = ready_federation()
    with scoping.platform():
        for minutes in (5, 7):
            schedules.set_schedule(
                federation=federation, every_minutes=minutes, cron="", time_zone="UTC", now=timezone.now()
            )
        assert Schedule.objects.get().every_minutes == 7
        schedules.remove_schedule(federation=federation)
        assert not Schedule.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_ticker_waits_for_who_opens_a_round_by_hand_and_holds_nothing_meanwhile() -> None:
    due = timezone.now()
    schedule = ScheduleFactory.create(federation=ready_federation(), next_due_at=due)
    begun = threading.Event()

    def tick() -> int:
        begun.set()
        try:
            return open_due(due)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as other:
        with scoping.platform():
            admission.one_at_a_time()
            ticking = other.submit(tick)
            begun.wait()
            with pytest.raises(TimeoutError):
                ticking.result(timeout=1)
            federation = Federation.objects.select_for_update(nowait=True).get(pk=schedule.federation_id)
            rounds.start_round(federation=federation)
        assert ticking.result() == 0
