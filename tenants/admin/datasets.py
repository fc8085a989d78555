"""Datasets: what is known about them, never what is in them."""

import json

from django.contrib import admin

from tenants import selectors
from tenants.admin.rows import ServiceRows
from tenants.admin.tags import n_bytes
from tenants.models import Dataset


@admin.register(Dataset)
class DatasetRows(ServiceRows):
    """Facts, state and refusal of each dataset."""

    members_only = frozenset({"facts"})  # as a whole: with its labels
    list_display = ("name", "tenant", "state_badge", "format", "n_rows", "size", "identifier", "created_at")
    list_select_related = ("tenant",)
    list_filter = ("state", "format")
    search_fields = ("name", "tenant__name")
    fieldsets = (
        (None, {"fields": ("name", "tenant", "state_badge", "format", "size", "identifier", "created_at")}),
        ("What validation found", {"fields": ("found", "finished_at")}),
        ("Refusal", {"fields": ("refusal_code", "state_reason", "refusal_row")}),
        ("Work", {"fields": ("attempt", "lease_owner", "lease_expires_at")}),
    )
    readonly_fields = ("state_badge", "found", "size", "identifier", "created_at", "finished_at")

    @admin.display(description="Rows")
    def n_rows(self, dataset: Dataset) -> str:
        """Rows of the file, once it is validated."""
        n_rows = dataset.facts.get("n_rows")
        return "–" if n_rows is None else f"{n_rows:,}"

    @admin.display(description="Facts")
    def found(self, dataset: Dataset) -> str:
        """What validation found, as far as this person may know it."""
        return json.dumps(selectors.shown_facts(dataset.facts), ensure_ascii=False)

    @admin.display(description="Size", ordering="size_bytes")
    def size(self, dataset: Dataset) -> str:
        """The file's size in the clear."""
        return n_bytes(dataset.size_bytes)
