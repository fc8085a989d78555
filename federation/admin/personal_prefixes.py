"""Personal prefixes: a member sees, grows and deletes its tenant's; an operator sees that they are there, no score."""

from typing import Any

from django import forms
from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
)

from federation.errors import PersonalRuleInvalid
from federation.models import Enrolment, PersonalPrefix
from federation.selectors import visibility
from federation.services.personal_prefixes import (
    DEFAULT_N_STEPS,
    delete_personal_prefix,
    grow_personal_prefix,
)
from federation.specification import DITTO_PROXIMAL
from federation.states import EnrolmentState, PersonalRule
from tenants import selectors
from tenants.admin.forms import ServiceForm, row_choice
from tenants.admin.row_actions import Done, RowAction
from tenants.admin.rows import ServiceRows
from tenants.admin.tags import decimals, minus, n_bytes, percent, points, thousands
from tenants.errors import PreludeError


class GrowingForm(ServiceForm):
    """What to grow, from which shared version."""

    explanation = (
        "A worker grows it on the rows with which the tenant takes part, and scores it and the shared version on the "
        "tenant's held-out rows. Nobody else can read it."
    )
    submit_label = "Grow"

    federation = row_choice()
    version = row_choice(
        required=False, help_text="Of that federation; the published one where none is chosen."
    )
    rule = forms.ChoiceField(
        choices=PersonalRule.choices,
        widget=UnfoldAdminSelectWidget(),
        help_text="Fine tune: plain training. Ditto: the same, held to the shared version. Personal values: shared "
        "keys, own values. Prior: nothing is trained; own label shares are added at use. Where the method is full, "
        "Prior alone.",
    )
    n_steps = forms.IntegerField(
        required=False,
        label="Steps",
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text=f"{DEFAULT_N_STEPS} where left out; no setting of Prior.",
    )
    learning_rate = forms.FloatField(
        required=False,
        widget=UnfoldAdminDecimalFieldWidget(),
        help_text="Of AdamW; what suits the method where left out.",
    )
    proximal = forms.FloatField(
        required=False,
        label="Ditto's strength",
        widget=UnfoldAdminDecimalFieldWidget(),
        help_text=f"{DITTO_PROXIMAL} where left out; a setting of Ditto alone.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        active = Enrolment.objects.filter(state=EnrolmentState.ACTIVE).values("federation")
        versions = visibility.prefix_versions().filter(federation__in=active)
        self.choose_from(
            federation=visibility.federations().filter(pk__in=active).order_by("name"),
            version=versions.select_related("federation").order_by("federation__name", "-number"),
        )

    def field_of(self, refusal: PreludeError) -> str | None:
        """A rule's refusal names the field itself."""
        return refusal.field if isinstance(refusal, PersonalRuleInvalid) else super().field_of(refusal)

    def call_service(self) -> PersonalPrefix:
        """Have it grown. Raises what `grow_personal_prefix` raises, and NotFound before a version is published."""
        data, tenant = self.cleaned_data, selectors.tenant_in_force()
        assert tenant is not None  # the page is for members alone
        federation = data.pop("federation")
        version = data.pop("version") or visibility.published(federation=federation).version
        enrolment = visibility.place(federation=federation, tenant=tenant)
        return grow_personal_prefix(
            enrolment=enrolment, version=version, rule=PersonalRule(data.pop("rule")), **data
        )

    def told(self, row: Any) -> str:
        """Say what a worker does next."""
        return f"A worker grows a personal prefix from {row.version} next."


def _remove(personal_prefix: PersonalPrefix, _actor: str) -> Done:
    told = f"The personal prefix {personal_prefix.public_id} is gone with its bytes."
    delete_personal_prefix(personal_prefix=personal_prefix)
    return Done(told, reverse("admin:federation_personalprefix_changelist"))


@admin.register(PersonalPrefix)
class PersonalPrefixRows(ServiceRows):
    """What tenants have grown for themselves."""

    add_form = GrowingForm
    visible = staticmethod(visibility.personal_prefixes)
    members_add = True
    members_only = frozenset(
        {
            *("shared_score", "loss_of_shared", "own_score", "own_loss", "rows", "size"),
            *("shared_accuracy", "shared_loss", "accuracy", "loss", "n_rows", "size_bytes"),
        }
    )
    row_actions = (
        RowAction(
            name="remove",
            label="Delete personal prefix",
            icon="delete",
            question="Delete {row} with its bytes? If a worker is growing it, that is called off.",
            permission="federation.delete_personalprefix",
            run=_remove,
            is_members_own=True,
            style="danger",
        ),
    )
    list_display = ("__str__", "state_badge", "shared_score", "own_score", "identifier", "created_at")
    list_select_related = ("tenant", "version__federation")
    list_filter = ("state", "rule", ("federation", admin.RelatedOnlyFieldListFilter))
    search_fields = ("tenant__name", "tenant__slug", "federation__name")
    fieldsets = (
        (None, {"fields": ("tenant", "version", "rule", "state_badge", "state_reason", "identifier")}),
        ("Training", {"fields": ("dataset", "n_steps", "learning_rate", "proximal")}),
        (
            "On held-out rows",
            {"fields": ("shared_score", "loss_of_shared", "own_score", "own_loss", "rows", "size")},
        ),
        ("Work", {"fields": ("attempt", "lease_owner", "lease_expires_at", "created_at", "finished_at")}),
    )
    readonly_fields = (
        *("state_badge", "shared_score", "loss_of_shared", "own_score", "own_loss", "rows", "size"),
        *("identifier", "created_at", "finished_at"),
    )

    @admin.display(description="Shared version's accuracy", ordering="shared_accuracy")
    def shared_score(self, personal_prefix: PersonalPrefix) -> str:
        """Of the tenant's held-out rows answered rightly with the version that it grew from."""
        return percent(personal_prefix.shared_accuracy)

    @admin.display(description="Its accuracy", ordering="accuracy")
    def own_score(self, personal_prefix: PersonalPrefix) -> SafeString:
        """Of the same rows, and by how many points it is ahead."""
        gain = points(minus(personal_prefix.accuracy, personal_prefix.shared_accuracy))
        return format_html("{} {}", percent(personal_prefix.accuracy), gain)

    @admin.display(description="Shared version's loss")
    def loss_of_shared(self, personal_prefix: PersonalPrefix) -> str:
        """On the tenant's held-out rows."""
        return decimals(personal_prefix.shared_loss)

    @admin.display(description="Its loss")
    def own_loss(self, personal_prefix: PersonalPrefix) -> str:
        """On the same rows."""
        return decimals(personal_prefix.loss)

    @admin.display(description="Held-out rows")
    def rows(self, personal_prefix: PersonalPrefix) -> str:
        """How many rows both scores are taken over."""
        return thousands(personal_prefix.n_rows)

    @admin.display(description="Size")
    def size(self, personal_prefix: PersonalPrefix) -> str:
        """Of its safetensors file."""
        return n_bytes(personal_prefix.size_bytes)
