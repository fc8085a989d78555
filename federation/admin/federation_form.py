"""The form that makes a federation."""

import json
from typing import Any, ClassVar

from django import forms
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from federation.errors import SpecificationInvalid
from federation.models import BaseModel, Federation
from federation.presets import PRESETS
from federation.services.federations import create_federation
from federation.specification import EXAMPLE, parse_specification
from federation.states import BaseModelState
from tenants.admin.forms import ServiceForm, row_choice


class IndentedJson(json.JSONEncoder):
    """JSON as a person writes it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "indent": 2, "ensure_ascii": False, "sort_keys": False})


def _texts() -> str:
    """Each preset's specification as the form shows it, for the script that fills it in."""
    return json.dumps(
        {preset.name: IndentedJson().encode(preset.specification.as_json()) for preset in PRESETS}
    )


class FederationForm(ServiceForm):
    """A federation: its base model and its rules."""

    refusals_at: ClassVar = {
        "federation_name_taken": "name",
        "base_model_not_ready": "base_model",
        "specification_invalid": "specification",
    }
    explanation = (
        "The specification is what all tenants agree on; it never changes afterwards. "
        "A training worker makes version 0; a start text that it is made from must be public."
    )
    submit_label = "Make federation"

    name = forms.CharField(max_length=200, widget=UnfoldAdminTextInputWidget())
    base_model = row_choice(help_text="One that a worker has read and found usable.")
    preset = forms.ChoiceField(
        choices=[(preset.name, preset.name) for preset in PRESETS],
        required=False,
        widget=UnfoldAdminSelectWidget(attrs={"data-fills": "id_specification", "data-texts": _texts()}),
        help_text="Fills the specification below: "
        + " ".join(f"<b>{preset.name}</b>: {preset.description}" for preset in PRESETS),
    )
    specification = forms.JSONField(
        encoder=IndentedJson,
        initial=EXAMPLE.as_json,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 38, "class": "prl-code", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.choose_from(base_model=BaseModel.objects.filter(state=BaseModelState.READY).order_by("name"))

    def clean_specification(self) -> object:
        """Tell the first faulty field here, before anything else is looked at."""
        try:
            parse_specification(self.cleaned_data["specification"])
        except SpecificationInvalid as refusal:
            raise forms.ValidationError(str(refusal), code=refusal.code) from None
        return self.cleaned_data["specification"]

    def call_service(self) -> Federation:
        """Make the federation. Raises FederationNameTaken, BaseModelNotReady and SpecificationInvalid."""
        wanted = ("name", "base_model", "specification")
        return create_federation(**{name: self.cleaned_data[name] for name in wanted})
