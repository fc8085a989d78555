"""What a tenant may use, and what it has used."""

from decimal import Decimal

from django.db import models

from tenants.models.owned import TenantOwned
from tenants.models.tenants import Tenant


class TenantLimits(TenantOwned):
    """One tenant's limits and its weight, made with it. None means no limit; changes hold within a second."""

    id_prefix = "lim"

    tenant = models.OneToOneField(Tenant, on_delete=models.PROTECT, related_name="limits")
    requests_per_minute = models.PositiveIntegerField(null=True, default=1_200)
    rounds_in_flight = models.PositiveIntegerField(null=True, default=20)
    dataset_rows = models.PositiveBigIntegerField(null=True, default=10_000_000)
    stored_bytes = models.PositiveBigIntegerField(null=True, default=50 * 10**9)
    device_seconds_per_month = models.PositiveBigIntegerField(null=True, default=1_000_000)
    concurrent_runs = models.PositiveIntegerField(
        null=True, help_text="Attempts at validating, training and evaluating that run at once."
    )
    weight = models.PositiveSmallIntegerField(
        default=1, help_text="Of its work among the tenants' of a federation."
    )

    class Meta:
        verbose_name = "tenant limits"
        verbose_name_plural = "tenant limits"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(weight__gte=1, weight__lte=100), name="tenant_limits_weight_in_range"
            )
        ]

    def __str__(self) -> str:
        return f"Limits of {self.tenant}"


class UsageDay(TenantOwned):
    """What a tenant used on one day (UTC). Rows are only ever added to; the sum over days is the whole."""

    id_prefix = "usd"

    day = models.DateField()
    n_requests = models.PositiveBigIntegerField(default=0)
    device_seconds = models.DecimalField(max_digits=18, decimal_places=6, default=Decimal())
    received_bytes = models.PositiveBigIntegerField(
        default=0, help_text="Datasets that were uploaded, and updates that were submitted."
    )
    sent_bytes = models.PositiveBigIntegerField(
        default=0, help_text="Archives that were downloaded, and versions that attempts fetched."
    )

    class Meta:
        verbose_name = "usage of a day"
        verbose_name_plural = "usage by day"
        constraints = [models.UniqueConstraint(fields=["tenant", "day"], name="usage_day_unique")]

    def __str__(self) -> str:
        return f"{self.tenant}, {self.day}"
