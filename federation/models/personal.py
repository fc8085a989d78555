"""Personal prefixes: what a tenant has grown for itself from a shared version."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from federation.errors import PersonalPrefixStateConflict
from federation.models.constraints import state_constraints
from federation.models.federations import Enrolment, Federation
from federation.models.prefixes import PrefixVersion
from federation.specification import FederationSpecification
from federation.states import (
    PERSONAL_PREFIX_TERMINAL,
    PERSONAL_PREFIX_TRANSITIONS,
    PersonalPrefixState,
    PersonalRule,
)
from tenants.leases import Leased
from tenants.models import Dataset, TenantOwned


class PersonalPrefix(TenantOwned, Leased):
    """A tenant's own prefix, with its score and the shared version's on the tenant's held-out rows.

    Its bytes are encrypted with the tenant's data key: a prefix can tell the text that it was trained on.
    """

    id_prefix = "ppx"
    waiting_state = PersonalPrefixState.QUEUED
    running_state = PersonalPrefixState.RUNNING
    transitions = PERSONAL_PREFIX_TRANSITIONS

    federation = models.ForeignKey(Federation, on_delete=models.PROTECT, related_name="personal_prefixes")
    enrolment = models.ForeignKey(Enrolment, on_delete=models.PROTECT, related_name="personal_prefixes")
    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="personal_prefixes")
    version = models.ForeignKey(PrefixVersion, on_delete=models.PROTECT, related_name="personal_prefixes")
    state = models.CharField(max_length=16, choices=PersonalPrefixState, default=PersonalPrefixState.QUEUED)
    rule = models.CharField(max_length=16, choices=PersonalRule)
    n_steps = models.PositiveIntegerField(null=True, help_text="None: the rule does not train.")
    learning_rate = models.FloatField(null=True)
    proximal = models.FloatField(null=True, help_text="The strength of Ditto's term; none for other rules.")
    shared_accuracy = models.FloatField(null=True)
    shared_loss = models.FloatField(null=True)
    accuracy = models.FloatField(null=True)
    loss = models.FloatField(null=True)
    n_rows = models.PositiveIntegerField(null=True)
    blob_name = models.CharField(max_length=200, blank=True, default="", editable=False)
    size_bytes = models.PositiveBigIntegerField(null=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = "personal prefix"
        verbose_name_plural = "personal prefixes"
        constraints = [
            *state_constraints("personal_prefix", PersonalPrefixState.values, PERSONAL_PREFIX_TERMINAL),
            models.CheckConstraint(
                condition=~Q(state=PersonalPrefixState.COMPLETED)
                | Q(
                    shared_accuracy__isnull=False,
                    shared_loss__isnull=False,
                    accuracy__isnull=False,
                    loss__isnull=False,
                    n_rows__isnull=False,
                    size_bytes__isnull=False,
                )
                & ~Q(blob_name=""),
                name="personal_prefix_completed_has_scores_and_bytes",
            ),
        ]
        indexes = [
            models.Index(
                fields=["created_at"],
                condition=Q(state=PersonalPrefixState.QUEUED),
                name="personal_prefix_waiting",
            ),
            models.Index(
                fields=["tenant"], condition=Q(state=PersonalPrefixState.RUNNING), name="personal_prefix_held"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.tenant}, {self.rule} from {self.version}"

    @property
    def encryption_context(self) -> str:
        """What the ciphertext is bound to: a blob moved to another personal prefix does not decrypt."""
        return f"personal_prefix:{self.id}"

    @property
    def rules(self) -> FederationSpecification:
        """The federation's specification with the training of this rule."""
        rules = self.federation.rules
        if self.n_steps is None:
            return rules
        return rules.for_personal(
            n_steps=self.n_steps, learning_rate=self.learning_rate, proximal=self.proximal or 0.0
        )

    @property
    def is_better(self) -> bool | None:
        """Whether it beats the shared version on the tenant's held-out rows: by accuracy, and by loss where equal."""
        if (
            self.accuracy is None
            or self.shared_accuracy is None
            or self.loss is None
            or self.shared_loss is None
        ):
            return None
        return (self.accuracy, -self.loss) > (self.shared_accuracy, -self.shared_loss)

    def conflict(self, target: str) -> PersonalPrefixStateConflict:
        return PersonalPrefixStateConflict(personal_prefix_id=self.public_id, state=self.state, wanted=target)
