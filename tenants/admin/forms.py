"""Forms of the console whose saving is a service's call."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms
from django.db import models, transaction
from unfold.widgets import UnfoldAdminSelectWidget

from tenants import scoping, selectors
from tenants.errors import PreludeError


def row_choice(**options: Any) -> "forms.ModelChoiceField[Any]":
    """A field that offers rows; which, is said with each request by `ServiceForm.choose_from`."""
    return forms.ModelChoiceField(queryset=None, widget=UnfoldAdminSelectWidget(), **options)


class ServiceForm(forms.Form):
    """What one service needs; its refusals are shown at the fields that they are about."""

    refusals_at: ClassVar[
        Mapping[str, str]
    ] = {}  # a refusal's code -> field; others are shown above the form
    explanation: ClassVar[str] = ""
    submit_label: ClassVar[str] = "Save"

    def choose_from(self, **querysets: models.QuerySet[Any]) -> None:
        """Offer rows in choice fields. Querysets are made in the request, since managers refuse outside of a scope."""
        for name, queryset in querysets.items():
            field = self.fields[name]
            assert isinstance(field, forms.ModelChoiceField)
            field.queryset = queryset

    def choose_tenant(self) -> None:
        """Offer the tenants of the scope in force: a member has but its own to choose."""
        self.choose_from(tenant=selectors.tenants().order_by("name"))
        if not scoping.is_platform():
            field = self.fields["tenant"]
            assert isinstance(field, forms.ModelChoiceField)
            field.required, field.empty_label = True, None

    def saved(self) -> models.Model | None:
        """The row that the service made, or None when the form now shows what is wrong."""
        if not self.is_valid():
            return None
        try:
            with transaction.atomic():
                return self.call_service()
        except PreludeError as refusal:
            self.add_error(self.field_of(refusal), str(refusal))
            return None

    def field_of(self, refusal: PreludeError) -> str | None:
        """The field that a refusal is about; None for the whole form."""
        return self.refusals_at.get(refusal.code)

    def call_service(self) -> models.Model:
        """Call the service with the cleaned fields. Raises what the service raises."""
        raise AssertionError(f"{type(self).__name__} names no service")

    def told(self, row: models.Model) -> str:
        """The sentence that tells the operator what was done."""
        return f"The {row._meta.verbose_name} {row} was added."
