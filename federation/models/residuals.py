"""What error feedback keeps of a tenant's uploads."""

from django.db import models

from federation.models.rounds import LocalRun
from tenants.models import TenantOwned


class Residual(TenantOwned):
    """What a local run's upload left out of its update, for the tenant's next one; encrypted with the tenant's key."""

    id_prefix = "rsd"

    local_run = models.ForeignKey(LocalRun, on_delete=models.PROTECT, related_name="residuals")
    blob_name = models.CharField(max_length=200, editable=False)

    class Meta:
        verbose_name = "residual"
        constraints = [models.UniqueConstraint(fields=["tenant", "local_run"], name="residual_unique")]

    def __str__(self) -> str:
        return f"residual of {self.local_run}"

    @staticmethod
    def encryption_context(local_run: LocalRun) -> str:
        """What the ciphertext is bound to: a blob moved to another local run does not decrypt."""
        return f"residual:{local_run.pk}"
