"""Tenants' places in federations."""

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet

from federation.models import Enrolment, Federation
from federation.services.federations import enrol, invite, leave
from federation.states import EnrolmentState
from tenants import selectors
from tenants.admin.forms import ServiceForm, row_choice
from tenants.admin.row_actions import ChoiceAction, Done, RowAction
from tenants.admin.rows import ServiceRows, change_url
from tenants.models import Dataset, Tenant
from tenants.states import DatasetState, TenantState


class InvitationForm(ServiceForm):
    """A place is offered; the tenant takes it with a dataset."""

    refusals_at: ClassVar = {"already_invited": "tenant", "federation_not_ready": "federation"}
    explanation = "The tenant takes its place itself, by naming a dataset of its own."
    submit_label = "Invite"

    federation = row_choice()
    tenant = row_choice()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        active = Tenant.objects.filter(state=TenantState.ACTIVE).order_by("name")
        self.choose_from(federation=Federation.objects.order_by("name"), tenant=active)

    def call_service(self) -> Enrolment:
        """Invite the tenant. Raises AlreadyInvited."""
        return invite(**self.cleaned_data)


def _enrol(enrolment: Enrolment, dataset: Dataset) -> Done:
    placed = enrol(federation=enrolment.federation, tenant=enrolment.tenant, dataset=dataset)
    return Done(f"{placed.tenant} takes part in {placed.federation} with {dataset}.", change_url(placed))


def _ready_datasets(enrolment: Enrolment) -> QuerySet[Dataset]:
    return selectors.datasets().filter(tenant=enrolment.tenant_id, state=DatasetState.READY).order_by("name")


def _leave(enrolment: Enrolment, _actor: str) -> Done:
    leave(enrolment=enrolment)
    told = f"{enrolment.tenant} has left {enrolment.federation}; later rounds go on without it."
    return Done(told, change_url(enrolment))


@admin.register(Enrolment)
class EnrolmentRows(ServiceRows):
    """Who is invited, takes part, or has left."""

    add_form = InvitationForm
    row_actions = (
        ChoiceAction(
            name="enrol",
            label="Take part",
            icon="handshake",
            question="With which dataset does {row.tenant} take part in {row.federation} from the next round on?",
            permission="federation.change_enrolment",
            run=_enrol,
            choices=_ready_datasets,
            is_offered=lambda enrolment: enrolment.state != EnrolmentState.LEFT,
            is_members_own=True,
            style="primary",
        ),
        RowAction(
            name="leave",
            label="End enrolment",
            icon="logout",
            question="End the enrolment {row}? Later rounds go on without the tenant; an operator can invite it again.",
            permission="federation.change_enrolment",
            run=_leave,
            is_offered=lambda enrolment: enrolment.state != EnrolmentState.LEFT,
            style="danger",
        ),
    )
    list_display = ("tenant", "federation", "state_badge", "dataset", "identifier", "created_at")
    list_select_related = ("tenant", "federation", "dataset")
    list_filter = ("state", ("federation", admin.RelatedOnlyFieldListFilter))
    search_fields = ("tenant__name", "tenant__slug", "federation__name")
    fields = ("tenant", "federation", "state_badge", "dataset", "identifier", "created_at")
    readonly_fields = fields
