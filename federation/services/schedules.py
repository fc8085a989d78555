"""Rounds that open by themselves: schedule rows in PostgreSQL, one round at most for each due time.

Missed times collapse: after an outage the schedule opens one round for the latest due time and goes on from now. A time
that comes while a round is live, or when the quorum is out of reach, is skipped and the reason is kept in the row.
Times that pass while a schedule is paused are no missed times: it goes on with the first one after it is resumed.
"""

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog
from cronsim import CronSim, CronSimError
from django.db import transaction
from django.db.models import QuerySet

from federation.errors import ScheduleInvalid
from federation.models import Federation, Schedule
from federation.services import admission, rounds
from tenants import scoping
from tenants.errors import PreludeError
from tenants.failpoints import FailPoint, reach
from tenants.services import audit

log = structlog.get_logger(__name__)


N_NEXT_TIMES: Final = 3
MAX_MINUTES: Final = 366 * 24 * 60
N_CRON_FIELDS: Final = 5


def set_schedule(
    *,
    federation: Federation,
    every_minutes: int | None,
    cron: str,
    time_zone: str,
    is_paused: bool = False,
    now: datetime,
) -> Schedule:
    """Make or replace the federation's schedule. Raises ScheduleInvalid.

    The federation's lock lets two that find no schedule take turns; `open_due_rounds` holds it too.
    """
    if (every_minutes is None) == (cron == ""):
        raise ScheduleInvalid(problem="give either every_minutes or cron")
    if cron and len(cron.split()) != N_CRON_FIELDS:
        # cronsim reads a sixth one, the first, as seconds: `0 0 3 * * *` is three o'clock, `* * * * * *` every second.
        raise ScheduleInvalid(
            problem=f"the cron line {cron!r} has not five fields, from minute to day of week"
        )
    due = next_due(every_minutes=every_minutes, cron=cron, time_zone=time_zone, after=now)
    rule = {"every_minutes": every_minutes, "cron": cron, "time_zone": time_zone, "is_paused": is_paused}
    with transaction.atomic():
        federation.lock()
        old = Schedule.objects.filter(federation=federation).first()
        schedule, _ = Schedule.objects.update_or_create(
            federation=federation, defaults={**rule, "next_due_at": due}
        )
        before = audit.fields(old, *rule) if old else None
        after = {**rule, "next_due_at": due}
        audit.record(action="schedule.set", subject=schedule, before=before, after=after)
    return schedule


def pause_schedule(*, schedule: Schedule) -> Schedule:
    """Its times pass without a round until it is resumed. Raises NotFound where it was removed meanwhile."""
    return _set_paused(schedule, is_paused=True, action="schedule.paused")


def resume_schedule(*, schedule: Schedule, now: datetime) -> Schedule:
    """Rounds open by themselves again, from the first due time after `now` on. Raises NotFound as pausing does."""
    return _set_paused(schedule, is_paused=False, action="schedule.resumed", now=now)


def _set_paused(schedule: Schedule, *, is_paused: bool, action: str, now: datetime | None = None) -> Schedule:
    with transaction.atomic():
        schedule.federation.lock()
        schedule.lock()
        before = audit.fields(schedule, "is_paused")
        schedule.is_paused = is_paused
        if now is not None:
            schedule.next_due_at = _following(schedule, now)
        schedule.save(update_fields=["is_paused", "next_due_at"])
        audit.record(
            action=action, subject=schedule, before=before, after=audit.fields(schedule, "is_paused")
        )
    return schedule


def next_times(schedule: Schedule) -> list[datetime]:
    """The next times at which it opens rounds; none while it is paused."""
    if schedule.is_paused:
        return []
    times = [schedule.next_due_at]
    while len(times) < N_NEXT_TIMES:
        times.append(next_due(**schedule.as_rule(), after=times[-1]))
    return times


def remove_schedule(*, federation: Federation) -> None:
    """From now on rounds open by hand only."""
    with transaction.atomic():
        federation.lock()
        schedule = Schedule.objects.filter(federation=federation).first()
        if schedule is not None:
            before = audit.fields(schedule, "federation", "every_minutes", "cron", "time_zone", "is_paused")
            audit.record(action="schedule.removed", subject=schedule, before=before)
            schedule.delete()


def next_due(
    *, every_minutes: int | None = None, cron: str = "", time_zone: str = "UTC", after: datetime
) -> datetime:
    """The first due time later than `after`; a cron line is read in its time zone, as Debian's cron reads it."""
    if every_minutes is not None:
        if not 1 <= every_minutes <= MAX_MINUTES:
            raise ScheduleInvalid(problem=f"every_minutes must be from 1 to {MAX_MINUTES}, a year")
        return after + timedelta(minutes=every_minutes)
    try:
        zone = ZoneInfo(time_zone)
    except (KeyError, ValueError, OSError):
        raise ScheduleInvalid(problem=f"there is no time zone {time_zone!r}") from None
    try:
        # In the second pass of an hour that a clock repeats, cronsim begins with the times of the first one.
        times = (due.astimezone(UTC) for due in CronSim(cron, after.astimezone(zone)))
        return next(due for due in times if due > after)
    except (CronSimError, StopIteration):
        raise ScheduleInvalid(problem=f"the cron line {cron!r} cannot be read or is never due") from None


def open_due_rounds(*, now: datetime) -> int:
    """Open the round of each schedule that is due, each in a transaction of its own. Returns how many.

    Any number of tickers may call this at once.
    """
    n_opened = 0
    with scoping.platform():
        found = list(_due(now).values_list("pk", flat=True))
    for schedule_id in found:
        try:
            with scoping.platform():
                n_opened += _open_if_due(schedule_id, now)
        except Exception:  # one schedule's trouble holds up no other
            log.exception("schedule_not_opened", schedule_id=str(schedule_id))
    return n_opened


def _open_if_due(schedule_id: UUID, now: datetime) -> int:
    admission.one_at_a_time()  # before the federation, as whoever opens a round by hand: else both may wait
    due = _due(now).select_for_update(skip_locked=True, of=("self", "federation")).filter(pk=schedule_id)
    schedule = due.select_related("federation").first()
    if schedule is None:
        return 0  # another ticker has it, or somebody is changing it: then the next look finds it
    reach(FailPoint.SCHEDULE_LOCKED)
    due_at = schedule.next_due_at
    schedule.next_due_at = _following(schedule, now)
    try:
        federated_round = rounds.start_round(federation=schedule.federation, due_at=due_at)
        schedule.last_outcome = f"{due_at.isoformat()}: opened {federated_round.public_id}"
    except PreludeError as refusal:
        schedule.last_outcome = f"{due_at.isoformat()}: skipped, {refusal.code}: {refusal}"
    schedule.save(update_fields=["next_due_at", "last_outcome"])
    return int("opened" in schedule.last_outcome)


def _due(now: datetime) -> QuerySet[Schedule]:
    return Schedule.objects.filter(next_due_at__lte=now, is_paused=False)


def _following(schedule: Schedule, now: datetime) -> datetime:
    due = schedule.next_due_at
    if due > now:
        return due
    if schedule.every_minutes:  # keep to the raster that the schedule began
        step = timedelta(minutes=schedule.every_minutes)
        return due + step * ((now - due) // step + 1)
    return next_due(every_minutes=None, cron=schedule.cron, time_zone=schedule.time_zone, after=now)
