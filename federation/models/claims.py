"""What fair claims remember: how much each tenant and each federation has been served, in virtual time."""

from django.db import models


class ClaimShare(models.Model):
    """The finish tag of one flow of work: a tenant's, or a federation's, whose id is its own."""

    id = models.UUIDField(primary_key=True, editable=False)
    finish_tag = models.FloatField(default=0.0)

    class Meta:
        verbose_name = "claim share"

    def __str__(self) -> str:
        return f"{self.id} at {self.finish_tag}"


class ClaimClock(models.Model):
    """Virtual time among tenants and among federations: one row, whose lock lets claims happen one at a time."""

    id = models.SmallIntegerField(primary_key=True)
    tenants = models.FloatField(default=0.0)
    federations = models.FloatField(default=0.0)
    last_start_at = models.DateTimeField(null=True)
    seconds_per_start = models.FloatField(null=True, help_text="A running mean, while work begins.")

    class Meta:
        verbose_name = "claim clock"
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="claim_clock_one_row")]

    def __str__(self) -> str:
        return f"{self.tenants}, {self.federations}"
