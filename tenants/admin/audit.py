"""The audit record: to be read, searched and filtered, never written."""

from django.contrib import admin
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from tenants.admin.rows import ServiceRows
from tenants.admin.tags import indented
from tenants.models import AuditEntry


def _shown(value: object) -> str:
    return value if isinstance(value, str) else indented(value)


@admin.register(AuditEntry)
class AuditEntryRows(ServiceRows):
    """Every change: who, from where, what, before and after."""

    # A number counts the entries of others (DECISIONS.md), and a hash is good for nothing without those before it.
    platform_only = ServiceRows.platform_only | {"number", "sha256", "content_sha256"}
    list_display = ("happened_at", "action", "who", "address", "subject", "tenant", "number")
    list_select_related = ("tenant",)
    list_filter = (("action", admin.AllValuesFieldListFilter), "actor_kind", "happened_at", "tenant")
    date_hierarchy = "happened_at"
    search_fields = ("object_id", "actor_id", "actor_name", "address", "request_id", "credential")
    fieldsets = (
        (None, {"fields": ("happened_at", "action", "subject", "tenant", "change", "identifier")}),
        ("Who", {"fields": ("who", "actor_id", "credential", "address", "request_id")}),
        ("Place in the chain", {"fields": ("number", "sha256", "content_sha256")}),
    )
    readonly_fields = ("who", "subject", "change", "identifier")

    @admin.display(description="Who", ordering="actor_name")
    def who(self, entry: AuditEntry) -> str:
        """The actor by name, and what kind it is."""
        kind = entry.get_actor_kind_display()
        return f"{entry.actor_name} ({kind})" if entry.actor_name.lower() != kind.lower() else kind

    @admin.display(description="Object", ordering="object_id")
    def subject(self, entry: AuditEntry) -> str:
        """What was changed."""
        return f"{entry.object_kind} {entry.object_id}".strip()

    @admin.display(description="Change")
    def change(self, entry: AuditEntry) -> SafeString:
        """Field by field, before and after."""
        names = [*entry.before, *(name for name in entry.after if name not in entry.before)]
        rows = [
            {
                "name": name,
                "before": _shown(entry.before[name]) if name in entry.before else None,
                "after": _shown(entry.after[name]) if name in entry.after else None,
            }
            for name in names
        ]
        return render_to_string("console/audit_change.html", {"rows": rows})
