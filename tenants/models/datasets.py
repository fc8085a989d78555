"""A tenant's datasets: encrypted bytes in storage, facts and state here."""

from django.db import models
from django.db.models.functions import Now

from tenants.errors import DatasetStateConflict
from tenants.leases import Leased
from tenants.models.owned import TenantOwned
from tenants.states import DATASET_TRANSITIONS, DatasetFormat, DatasetState


class Dataset(TenantOwned, Leased):
    """A file of examples, encrypted with its tenant's key; only training workers read it."""

    id_prefix = "dst"
    waiting_state = DatasetState.VALIDATING
    running_state = DatasetState.VALIDATING
    transitions = DATASET_TRANSITIONS  # type: ignore[assignment]

    name = models.CharField(max_length=200)
    format = models.CharField(max_length=16, choices=DatasetFormat)
    state = models.CharField(max_length=16, choices=DatasetState, default=DatasetState.VALIDATING)
    blob_name = models.CharField(max_length=200, editable=False)
    size_bytes = models.PositiveBigIntegerField()
    facts = models.JSONField(default=dict, blank=True)
    refusal_code = models.CharField(max_length=64, blank=True, default="")
    refusal_row = models.PositiveBigIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = "dataset"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(state__in=DatasetState.values), name="dataset_state_known"
            ),
            models.CheckConstraint(
                condition=models.Q(state=DatasetState.VALIDATING, finished_at=None)
                | (~models.Q(state=DatasetState.VALIDATING) & models.Q(finished_at__isnull=False)),
                name="dataset_finished_at_iff_terminal",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def encryption_context(self) -> str:
        """What the ciphertext is bound to: a blob moved to another dataset does not decrypt."""
        return self.blob_context(str(self.id))

    @staticmethod
    def blob_context(dataset_key: str) -> str:
        """The context for the dataset with this key, before its row is there."""
        return f"dataset:{dataset_key}"

    def conflict(self, target: str) -> DatasetStateConflict:
        return DatasetStateConflict(dataset_id=self.public_id, state=self.state, wanted=target)
