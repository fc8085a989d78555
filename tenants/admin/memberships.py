"""Who belongs to a tenant, and in which role."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.urls import reverse
from unfold.widgets import UnfoldAdminEmailInputWidget, UnfoldAdminSelectWidget

from tenants import acting
from tenants.admin.forms import ServiceForm, row_choice
from tenants.admin.row_actions import Done, RowAction
from tenants.admin.rows import ServiceRows
from tenants.models import Membership
from tenants.services.tenants import add_member, remove_member
from tenants.states import Role


class MembershipForm(ServiceForm):
    """A person gets a role within a tenant."""

    refusals_at: ClassVar = {"membership_exists": "email", "right_not_held": "role"}
    explanation = "A person who is new here gets an account without a password."

    tenant = row_choice()
    email = forms.EmailField(max_length=150, widget=UnfoldAdminEmailInputWidget())
    role = forms.ChoiceField(choices=Role.choices, widget=UnfoldAdminSelectWidget())

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.choose_tenant()

    def call_service(self) -> Membership:
        """Add the member. Raises MembershipExists."""
        data = self.cleaned_data
        return add_member(
            tenant=data["tenant"],
            email=data["email"],
            role=Role(data["role"]),
            giver_rights=acting.actor().rights,
        )


def _remove(membership: Membership, _actor: str) -> Done:
    told = f"{membership.address} is no longer a member of {membership.tenant}."
    remove_member(membership=membership)
    return Done(told, reverse("admin:tenants_membership_changelist"))


@admin.register(Membership)
class MembershipRows(ServiceRows):
    """Roles of people within tenants."""

    add_form = MembershipForm
    row_actions = (
        RowAction(
            name="remove",
            label="Remove member",
            icon="person_remove",
            question="Remove {row} from the tenant? Its own API keys end; the account stays.",
            permission="tenants.delete_membership",
            run=_remove,
            style="danger",
        ),
    )
    list_display = ("person", "role", "tenant", "created_at")
    list_select_related = ("user", "tenant")
    list_filter = ("role",)
    search_fields = ("user__email", "tenant__name")
    fields = ("person", "tenant", "role", "identifier", "created_at")
    readonly_fields = fields

    @admin.display(description="Person", ordering="user__email")
    def person(self, membership: Membership) -> str:
        """The address: the account's name is not the tenant's to know."""
        return membership.address
