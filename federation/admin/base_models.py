"""Base models."""

from typing import ClassVar

from django import forms
from django.contrib import admin
from unfold.widgets import UnfoldAdminTextInputWidget

from federation.models import BaseModel
from federation.selectors import visibility
from federation.services.base_models import register_base_model
from tenants.admin.forms import ServiceForm
from tenants.admin.rows import ServiceRows


class BaseModelForm(ServiceForm):
    """A directory of a Hugging Face model on the platform's disks."""

    refusals_at: ClassVar = {"base_model_name_taken": "name", "base_model_directory_invalid": "directory"}
    explanation = (
        "A training worker reads the directory and writes down digests and shape. Nothing is downloaded."
    )
    submit_label = "Register"

    name = forms.CharField(max_length=200, widget=UnfoldAdminTextInputWidget())
    directory = forms.CharField(
        max_length=500,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Relative to the platform's root of base models, such as <code>smollm2-135m-instruct</code>.",
    )
    source = forms.CharField(
        max_length=500, widget=UnfoldAdminTextInputWidget(), help_text="Where it comes from, for people."
    )
    licence = forms.CharField(
        max_length=200, widget=UnfoldAdminTextInputWidget(), help_text="Such as Apache-2.0."
    )

    def call_service(self) -> BaseModel:
        """Register it. Raises BaseModelNameTaken and BaseModelDirectoryInvalid."""
        return register_base_model(**self.cleaned_data)


@admin.register(BaseModel)
class BaseModelRows(ServiceRows):
    """Frozen models by the digests of their weights."""

    add_form = BaseModelForm
    visible = staticmethod(visibility.base_models)
    list_display = (
        "name",
        "state_badge",
        "architecture",
        "n_parameters",
        "licence",
        "identifier",
        "created_at",
    )
    list_filter = ("state",)
    search_fields = ("name", "weights_sha256", "directory")
    fieldsets = (
        (
            None,
            {"fields": ("name", "state_badge", "source", "licence", "directory", "identifier", "created_at")},
        ),
        ("What a worker read", {"fields": ("facts", "weights_sha256", "tokenizer_sha256", "finished_at")}),
        ("Refusal", {"fields": ("refusal_code", "state_reason")}),
        ("Work", {"fields": ("attempt", "lease_owner", "lease_expires_at")}),
    )
    readonly_fields = ("state_badge", "identifier", "created_at", "finished_at")

    @admin.display(description="Architecture")
    def architecture(self, base_model: BaseModel) -> str:
        """The class that its configuration names."""
        return str(base_model.facts.get("architecture", "–"))

    @admin.display(description="Parameters")
    def n_parameters(self, base_model: BaseModel) -> str:
        """Their number, once a worker has counted."""
        n_parameters = base_model.facts.get("n_parameters")
        return "–" if n_parameters is None else f"{n_parameters:,}"
