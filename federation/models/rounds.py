"""Rounds, the tenants' local runs within them, evaluations of versions, and the events of all these."""

from datetime import timedelta
from typing import Any, Final, Self

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from federation.errors import EvaluationStateConflict, LocalRunStateConflict, RoundStateConflict
from federation.models.campaigns import Campaign
from federation.models.constraints import state_constraints
from federation.models.federations import Enrolment, Federation
from federation.models.prefixes import PrefixVersion
from federation.states import (
    EVALUATION_GIVEN_UP,
    EVALUATION_TERMINAL,
    EVALUATION_TRANSITIONS,
    LOCAL_RUN_STOPPED,
    LOCAL_RUN_TERMINAL,
    LOCAL_RUN_TRANSITIONS,
    ROUND_LIVE,
    ROUND_TERMINAL,
    ROUND_TRANSITIONS,
    EvaluationState,
    LocalRunState,
    RoundState,
)
from tenants.errors import LeaseLost
from tenants.leases import Holdable, Leased
from tenants.models import Dataset, Tenant, TenantOwned

_HOLDABLE: Final = (RoundState.TRAINING, RoundState.AGGREGATING)  # there is work in them that takes long
_UNCHANGING: Final = ("federation", "parent_version", "incumbent_version", "candidate_version")


class FederatedRound(Holdable):
    """One turn of a federation: tenants train from the parent version, the mean of their changes is the candidate.

    The gate compares the candidate with the incumbent: the version that was published when the round opened. It is the
    parent too, but for the rounds of a campaign, which begin where the one before ended.

    While its updates are checked, and while it aggregates, one coordinator holds it; what is in the columns of its
    lease later is how that ended.
    """

    id_prefix = "rnd"
    running_state = RoundState.AGGREGATING
    transitions = ROUND_TRANSITIONS

    federation = models.ForeignKey(Federation, on_delete=models.PROTECT, related_name="rounds")
    number = models.PositiveIntegerField()
    state = models.CharField(max_length=16, choices=RoundState, default=RoundState.OPEN)
    parent_version = models.ForeignKey(PrefixVersion, on_delete=models.PROTECT, related_name="rounds_from")
    incumbent_version = models.ForeignKey(PrefixVersion, on_delete=models.PROTECT, related_name="+")
    candidate_version = models.OneToOneField(
        PrefixVersion, null=True, on_delete=models.PROTECT, related_name="made_in_round"
    )
    quorum = models.PositiveIntegerField()
    opened_at = models.DateTimeField(db_default=Now(), editable=False)
    deadline_at = models.DateTimeField()
    due_at = models.DateTimeField(
        null=True, help_text="The schedule's time that opened it; none: opened by hand."
    )
    campaign = models.ForeignKey(Campaign, null=True, on_delete=models.PROTECT, related_name="rounds")
    n_tries = models.PositiveIntegerField(
        default=0, editable=False, help_text="Attempts of coordinators at its next step."
    )
    # Whether the coordinator was told that no local run waits or runs any more (`federation.services.looking`).
    is_training_told = models.BooleanField(default=False, editable=False)

    class Meta:
        verbose_name = "round"
        constraints = [
            *state_constraints("round", RoundState.values, ROUND_TERMINAL),
            models.UniqueConstraint(fields=["federation", "number"], name="round_number_unique"),
            models.UniqueConstraint(fields=["federation", "due_at"], name="round_due_at_unique"),
            models.UniqueConstraint(
                fields=["federation"], condition=Q(state__in=ROUND_LIVE), name="round_one_live_per_federation"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.federation} round {self.number}"

    @classmethod
    def unattended(cls) -> models.QuerySet[Self]:
        """Rounds to be checked or aggregated at which nobody is, or somebody who was not heard of in time."""
        nobodys = Q(lease_expires_at=None) | Q(lease_expires_at__lt=Now())
        return cls._base_manager.filter(nobodys, state__in=_HOLDABLE)

    @classmethod
    def held(cls, pk: object, *, attempt: int) -> models.QuerySet[Self]:
        return cls._base_manager.filter(
            pk=pk, state__in=_HOLDABLE, attempt=attempt, lease_expires_at__isnull=False
        )

    def take(self, *, owner: str) -> None:
        """Begin to check or to aggregate. Raises LeaseLost when another coordinator is at it, or neither is due."""
        expires_at = Now() + timedelta(seconds=settings.LEASE_SECONDS)
        taken = self.unattended().filter(pk=self.pk)
        counted = {"attempt": F("attempt") + 1, "n_tries": F("n_tries") + 1}
        if taken.update(**counted, lease_owner=owner, lease_expires_at=expires_at) != 1:
            raise LeaseLost(public_id=self.public_id, attempt=self.attempt + 1)
        # The row is locked: no other attempt begins before the commit.
        self.refresh_from_db(fields=list(counted))

    def let_go(self) -> None:
        """End a locked attempt that came to something: the next step is for anyone, and its tries begin anew."""
        self.n_tries, self.state_reason, self.lease_expires_at = 0, "", None
        self.save(update_fields=["n_tries", "state_reason", "lease_expires_at"])

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        """What was read of versions and of the federation's specification is kept: they never change."""
        known = {name: row for name, row in self._state.fields_cache.items() if name in _UNCHANGING}
        super().refresh_from_db(*args, **kwargs)
        for name, row in known.items():
            if row is not None and row.pk == getattr(self, f"{name}_id"):
                setattr(self, name, row)

    def conflict(self, target: str) -> RoundStateConflict:
        return RoundStateConflict(round_id=self.public_id, state=self.state, wanted=target)

    def event_of_move(self, origin: str) -> "RoundEvent":
        return RoundEvent(
            federated_round=self, kind=f"round.{self.state}", message=self.state_reason, data={"from": origin}
        )


class LocalRun(TenantOwned, Leased):
    """One tenant's training within one round, from the parent version to an update that is accepted or not."""

    id_prefix = "run"
    waiting_state = LocalRunState.QUEUED
    running_state = LocalRunState.RUNNING
    transitions = LOCAL_RUN_TRANSITIONS

    federated_round = models.ForeignKey(FederatedRound, on_delete=models.PROTECT, related_name="local_runs")
    enrolment = models.ForeignKey(Enrolment, on_delete=models.PROTECT, related_name="local_runs")
    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="local_runs")
    state = models.CharField(max_length=16, choices=LocalRunState, default=LocalRunState.QUEUED)
    n_examples = models.PositiveBigIntegerField(help_text="The dataset's training rows: the update's weight.")
    progress = models.JSONField(default=dict, blank=True)
    history = models.JSONField(default=list, blank=True, help_text="[step, loss] of the attempt that counts.")
    metrics = models.JSONField(default=dict, blank=True)
    update_sha256 = models.CharField(max_length=64, blank=True, default="")
    update_size_bytes = models.PositiveBigIntegerField(null=True, blank=True)
    rejection_code = models.CharField(max_length=64, blank=True, default="")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    # What a claim brings along: how the parent version scores on the tenant's held-out rows, where that is known.
    parent_score: dict[str, Any] | None = None

    class Meta:
        verbose_name = "local run"
        constraints = [
            *state_constraints("local_run", LocalRunState.values, LOCAL_RUN_TERMINAL),
            models.UniqueConstraint(fields=["federated_round", "tenant"], name="local_run_unique"),
        ]
        indexes = [
            models.Index(
                fields=["created_at"], condition=Q(state=LocalRunState.QUEUED), name="local_run_waiting"
            ),
            models.Index(fields=["tenant"], condition=Q(state=LocalRunState.RUNNING), name="local_run_held"),
        ]

    def __str__(self) -> str:
        return f"{self.tenant}, {self.federated_round}"

    def conflict(self, target: str) -> LocalRunStateConflict:
        return LocalRunStateConflict(local_run_id=self.public_id, state=self.state, wanted=target)

    def event_of_move(self, origin: str) -> "RoundEvent":
        return self._event(origin, self.state_reason)

    def record_stop(self) -> None:
        RoundEvent.objects.create(
            federated_round=self.federated_round,
            tenant=self.tenant,
            kind=LOCAL_RUN_STOPPED,
            message="Its worker has stopped.",
            data={"local_run": self.public_id, "attempt": self.attempt},
        )

    def _event(self, origin: str, message: str) -> "RoundEvent":
        return RoundEvent(
            federated_round_id=self.federated_round_id,  # by their keys: a lock has just made both forgotten
            tenant_id=self.tenant_id,
            kind=f"local_run.{self.state}",
            message=message,
            data={"from": origin, "local_run": self.public_id, "attempt": self.attempt},
        )


class Evaluation(TenantOwned, Leased):
    """A version's score on one tenant's held-out rows; no version means the base model without a prefix."""

    id_prefix = "evl"
    waiting_state = EvaluationState.QUEUED
    running_state = EvaluationState.RUNNING
    transitions = EVALUATION_TRANSITIONS

    federation = models.ForeignKey(Federation, on_delete=models.PROTECT, related_name="evaluations")
    version = models.ForeignKey(
        PrefixVersion, null=True, on_delete=models.PROTECT, related_name="evaluations"
    )
    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="evaluations")
    state = models.CharField(max_length=16, choices=EvaluationState, default=EvaluationState.QUEUED)
    accuracy = models.FloatField(null=True)
    loss = models.FloatField(null=True)
    n_rows = models.PositiveIntegerField(null=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = "evaluation"
        constraints = [
            *state_constraints("evaluation", EvaluationState.values, EVALUATION_TERMINAL),
            models.UniqueConstraint(
                fields=["tenant", "federation", "version", "dataset"],
                condition=~Q(state__in=EVALUATION_GIVEN_UP),
                nulls_distinct=False,
                name="evaluation_unique",
            ),
            models.CheckConstraint(
                condition=~Q(state=EvaluationState.COMPLETED)
                | Q(accuracy__isnull=False, n_rows__isnull=False),
                name="evaluation_completed_has_score",
            ),
        ]
        indexes = [
            models.Index(
                fields=["created_at"], condition=Q(state=EvaluationState.QUEUED), name="evaluation_waiting"
            ),
            models.Index(
                fields=["tenant"], condition=Q(state=EvaluationState.RUNNING), name="evaluation_held"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.version or 'base model'} at {self.tenant}"

    def conflict(self, target: str) -> EvaluationStateConflict:
        return EvaluationStateConflict(evaluation_id=self.public_id, state=self.state, wanted=target)


class RoundEvent(models.Model):
    """What happened in a round, in order; append-only. With a tenant: only that tenant and the platform may read it."""

    has_shared_rows = True  # those without a tenant: the wall lets every tenant read them

    id = models.BigAutoField(primary_key=True)
    federated_round = models.ForeignKey(
        FederatedRound, on_delete=models.PROTECT, related_name="events", db_index=False
    )
    tenant = models.ForeignKey(Tenant, null=True, on_delete=models.PROTECT, related_name="+", db_index=False)
    kind = models.CharField(max_length=64)
    message = models.TextField(blank=True, default="")
    data = models.JSONField(default=dict)
    happened_at = models.DateTimeField(db_default=Now(), editable=False)
    number = models.BigIntegerField(
        null=True, editable=False, help_text="Its place in the stream, given after its commit."
    )

    class Meta:
        verbose_name = "round event"
        ordering = ["id"]
        indexes = [
            models.Index(fields=["federated_round", "number"], name="round_event_of_round"),
            models.Index(fields=["tenant", "number"], name="round_event_of_tenant"),
            models.Index(fields=["federated_round"], condition=Q(tenant=None), name="round_event_shared"),
        ]

    def __str__(self) -> str:
        return self.kind

    def content(self) -> dict[str, object]:
        """All that it says but when and of which kind, ids being public ones: what webhooks send."""
        return {
            "id": self.pk,
            "federation": self.federated_round.federation.public_id,
            "round": self.federated_round.public_id,
            "tenant": self.tenant.public_id if self.tenant else None,
            "message": self.message,
            "facts": self.data,
        }
