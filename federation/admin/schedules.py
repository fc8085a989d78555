"""Schedules: when a federation's rounds open by themselves."""

from typing import Any

from django import forms
from django.contrib import admin
from django.utils import timezone
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextInputWidget

from federation.models import Federation, Schedule
from federation.selectors import visibility
from federation.services.schedules import pause_schedule, remove_schedule, resume_schedule, set_schedule
from tenants.admin.forms import ServiceForm, row_choice
from tenants.admin.row_actions import Done, RowAction
from tenants.admin.rows import ServiceRows, change_url


class ScheduleForm(ServiceForm):
    """Every so many minutes, or a cron line in a time zone."""

    explanation = (
        "Give either an interval or a cron line. A schedule that the federation has already is replaced."
    )
    submit_label = "Set schedule"

    federation = row_choice()
    every_minutes = forms.IntegerField(required=False, min_value=1, widget=UnfoldAdminIntegerFieldWidget())
    cron = forms.CharField(
        required=False,
        max_length=200,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Such as <code>30 2 * * 1-5</code>: at 2:30 on weekdays.",
    )
    time_zone = forms.CharField(
        max_length=64,
        initial="UTC",
        widget=UnfoldAdminTextInputWidget(),
        help_text="For the cron line, such as <code>Europe/Berlin</code>.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.choose_from(federation=Federation.objects.order_by("name"))

    def call_service(self) -> Schedule:
        """Set the schedule. Raises ScheduleInvalid."""
        return set_schedule(**self.cleaned_data, now=timezone.now())

    def told(self, row: Any) -> str:
        """Say when rounds open."""
        return f"Rounds of {row.federation} open by themselves: {row}."


def _pause(schedule: Schedule, _actor: str) -> Done:
    pause_schedule(schedule=schedule)
    told = f"The schedule of {schedule.federation} is paused: its times pass without a round."
    return Done(told, change_url(schedule.federation))


def _resume(schedule: Schedule, _actor: str) -> Done:
    resume_schedule(schedule=schedule, now=timezone.now())
    told = f"Rounds of {schedule.federation} open by themselves again, {schedule}."
    return Done(told, change_url(schedule.federation))


def _remove(schedule: Schedule, _actor: str) -> Done:
    remove_schedule(federation=schedule.federation)
    told = f"Rounds of {schedule.federation} open by hand only."
    return Done(told, change_url(schedule.federation))


@admin.register(Schedule)
class ScheduleRows(ServiceRows):
    """One schedule a federation at most."""

    add_form = ScheduleForm
    visible = staticmethod(visibility.schedules)
    row_actions = (
        RowAction(
            name="pause",
            label="Pause",
            icon="pause",
            question="Pause the schedule “{row}”? Its times pass without a round until it is resumed.",
            permission="federation.change_schedule",
            run=_pause,
            is_offered=lambda schedule: not schedule.is_paused,
        ),
        RowAction(
            name="resume",
            label="Resume",
            icon="resume",
            question="Resume the schedule “{row}”? Rounds open by themselves from its next time on.",
            permission="federation.change_schedule",
            run=_resume,
            is_offered=lambda schedule: schedule.is_paused,
        ),
        RowAction(
            name="remove",
            label="Remove schedule",
            icon="event_busy",
            question="Remove the schedule “{row}”? From then on rounds open by hand only.",
            permission="federation.delete_schedule",
            run=_remove,
            style="danger",
        ),
    )
    list_display = ("federation", "__str__", "is_paused", "next_due_at", "last_outcome")
    list_select_related = ("federation",)
    search_fields = ("federation__name", "cron")
    fields = (
        "federation",
        "every_minutes",
        "cron",
        "time_zone",
        "is_paused",
        "next_due_at",
        "last_outcome",
        "identifier",
    )
    readonly_fields = ("identifier", "last_outcome")
