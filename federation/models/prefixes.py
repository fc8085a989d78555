"""Prefix versions, the pointer to the published one, and the record of every publication."""

from django.db import models
from django.db.models.functions import Now

from federation.models.federations import Federation
from tenants.ids import Identified


class PrefixVersion(Identified):
    """An immutable, content-addressed prefix: number 0 is the start, each later one grew from its parent in a round.

    `sha256` is what is scored and published, `broadcast_sha256` what tenants train from (the same blob where nothing
    differs), `server_state_sha256` what the server's optimizer and average go on from (none where nothing is kept).
    """

    id_prefix = "pfx"

    federation = models.ForeignKey(Federation, on_delete=models.PROTECT, related_name="prefix_versions")
    number = models.PositiveIntegerField()
    parent = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="children")
    sha256 = models.CharField(max_length=64)
    size_bytes = models.PositiveBigIntegerField()
    broadcast_sha256 = models.CharField(max_length=64)
    broadcast_size_bytes = models.PositiveBigIntegerField()
    server_state_sha256 = models.CharField(max_length=64, blank=True, default="")
    server_state_size_bytes = models.PositiveBigIntegerField(default=0)
    n_contributors = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = "prefix version"
        constraints = [
            models.UniqueConstraint(fields=["federation", "number"], name="prefix_version_number_unique"),
            models.CheckConstraint(
                condition=models.Q(number=0, parent=None) | models.Q(number__gt=0, parent__isnull=False),
                name="prefix_version_parent_unless_start",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.federation} v{self.number}"


class PublishedPrefix(Identified):
    """The one-row pointer of a federation to the version that its tenants use."""

    id_prefix = "pub"

    federation = models.OneToOneField(Federation, on_delete=models.PROTECT, related_name="published")
    version = models.ForeignKey(PrefixVersion, on_delete=models.RESTRICT, related_name="+")
    published_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name = "published prefix"

    def __str__(self) -> str:
        return str(self.version)


class PublishRecord(Identified):
    """One move of the pointer; append-only. A roll-back is a record like any other."""

    id_prefix = "prc"

    federation = models.ForeignKey(Federation, on_delete=models.PROTECT, related_name="publish_records")
    old = models.ForeignKey(PrefixVersion, null=True, on_delete=models.PROTECT, related_name="+")
    new = models.ForeignKey(PrefixVersion, on_delete=models.PROTECT, related_name="publish_records")
    actor = models.CharField(max_length=200)
    reason = models.TextField()
    recorded_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = "publish record"
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.old} -> {self.new}"
