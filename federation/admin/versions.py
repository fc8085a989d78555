"""Prefix versions, which one is published, and every publication that ever was."""

from django.contrib import admin
from django.utils.safestring import SafeString

from federation.models import PrefixVersion, PublishRecord
from federation.selectors import visibility
from federation.services.prefixes import roll_back
from tenants.admin.row_actions import Done, RowAction
from tenants.admin.rows import ServiceRows, badge, change_url
from tenants.admin.tags import n_bytes


def _roll_back(version: PrefixVersion, actor: str) -> Done:
    roll_back(federation=version.federation, version=version, actor=actor)
    told = f"Rolled back: version {version.number} of {version.federation} is the published one now."
    return Done(told, change_url(version.federation))


def is_published(version: PrefixVersion) -> bool:
    """Whether the federation's pointer names it."""
    pointer = getattr(version.federation, "published", None)
    return pointer is not None and pointer.version_id == version.pk


@admin.register(PrefixVersion)
class PrefixVersionRows(ServiceRows):
    """Immutable, content-addressed."""

    visible = staticmethod(visibility.prefix_versions)
    row_actions = (
        RowAction(
            name="roll-back",
            label="Roll back to this",
            icon="history",
            question="Publish {row} again? Tenants get it at once, and the next round trains from it.",
            permission="federation.change_publishedprefix",
            run=_roll_back,
            is_offered=lambda version: not is_published(version),
        ),
    )
    list_display = ("name", "publication", "origin", "updates", "size", "digest", "created_at")
    list_select_related = ("federation__published", "made_in_round")
    list_filter = (("federation", admin.RelatedOnlyFieldListFilter),)
    search_fields = ("federation__name", "sha256")
    fields = (
        *("federation", "number", "publication", "parent", "origin", "updates"),
        *("sha256", "size", "identifier", "created_at"),
    )
    readonly_fields = fields

    @admin.display(description="Version", ordering="number")
    def name(self, version: PrefixVersion) -> str:
        """Federation and number."""
        return str(version)

    @admin.display(description="State")
    def publication(self, version: PrefixVersion) -> SafeString:
        """Whether it is the published one."""
        return badge("published") if is_published(version) else badge("not published")

    @admin.display(description="Made in")
    def origin(self, version: PrefixVersion) -> str:
        """The round that it came out of."""
        made_in = getattr(version, "made_in_round", None)
        return f"round {made_in.number}" if made_in else "start text"

    @admin.display(description="Updates", ordering="n_contributors")
    def updates(self, version: PrefixVersion) -> str:
        """How many tenants' updates are in its last step."""
        return str(version.n_contributors) if version.number else "–"

    @admin.display(description="Size", ordering="size_bytes")
    def size(self, version: PrefixVersion) -> str:
        """Of its safetensors file."""
        return n_bytes(version.size_bytes)

    @admin.display(description="SHA-256", ordering="sha256")
    def digest(self, version: PrefixVersion) -> str:
        """Enough of the digest to recognise it."""
        return f"{version.sha256[:12]}…"


@admin.register(PublishRecord)
class PublishRecordRows(ServiceRows):
    """Every move of a published pointer, roll-backs among them."""

    visible = staticmethod(visibility.publish_records)
    list_display = ("recorded_at", "federation", "move", "actor", "reason")
    list_select_related = ("federation", "old", "new")
    list_filter = (("federation", admin.RelatedOnlyFieldListFilter),)
    search_fields = ("federation__name", "actor", "reason")
    fields = ("federation", "old", "new", "actor", "reason", "recorded_at", "identifier")
    readonly_fields = fields

    @admin.display(description="Move")
    def move(self, record: PublishRecord) -> str:
        """From which version to which."""
        return f"v{record.old.number} → v{record.new.number}" if record.old else f"v{record.new.number}"
