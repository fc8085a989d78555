"""Base models, federations, who is enrolled, and when rounds open by themselves."""

from typing import Any

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from federation.errors import BaseModelStateConflict, FederationStateConflict
from federation.models.constraints import state_constraints
from federation.specification import FederationSpecification
from federation.states import (
    BASE_MODEL_TRANSITIONS,
    FEDERATION_TRANSITIONS,
    BaseModelState,
    EnrolmentState,
    FederationState,
    Priority,
)
from tenants.ids import Identified
from tenants.leases import Leased
from tenants.models import Dataset, TenantOwned

MAX_WEIGHT = 100


class BaseModel(Leased):
    """A frozen large model on the platform's disks, known by the digests of its weights and tokenizer."""

    id_prefix = "bmd"
    waiting_state = BaseModelState.REGISTERING
    running_state = BaseModelState.REGISTERING
    transitions = BASE_MODEL_TRANSITIONS

    name = models.CharField(max_length=200)
    directory = models.CharField(max_length=500, help_text="Relative to the root of base models.")
    source = models.CharField(max_length=500, help_text="Where it comes from, for people.")
    licence = models.CharField(max_length=200)
    state = models.CharField(max_length=16, choices=BaseModelState, default=BaseModelState.REGISTERING)
    weights_sha256 = models.CharField(max_length=64, blank=True, default="")
    tokenizer_sha256 = models.CharField(max_length=64, blank=True, default="")
    facts = models.JSONField(default=dict, blank=True)
    refusal_code = models.CharField(max_length=64, blank=True, default="")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = "base model"
        constraints = [
            models.UniqueConstraint(
                fields=["name"], condition=~Q(state=BaseModelState.REFUSED), name="base_model_name_unique"
            ),
            *state_constraints(
                "base_model", BaseModelState.values, [BaseModelState.READY, BaseModelState.REFUSED]
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def kind(self) -> str:
        """`causal` or `encoder`; what was read before there were encoders is causal."""
        return str(self.facts.get("kind", "causal"))

    def conflict(self, target: str) -> BaseModelStateConflict:
        return BaseModelStateConflict(base_model_id=self.public_id, state=self.state, wanted=target)


class Federation(Leased):
    """Tenants that customize one base model together, under one specification that never changes."""

    id_prefix = "fed"
    waiting_state = FederationState.PREPARING
    running_state = FederationState.PREPARING
    transitions = FEDERATION_TRANSITIONS

    name = models.CharField(max_length=200)
    base_model = models.ForeignKey(BaseModel, on_delete=models.PROTECT, related_name="federations")
    specification = models.JSONField()
    specification_sha256 = models.CharField(max_length=64, editable=False)
    state = models.CharField(max_length=16, choices=FederationState, default=FederationState.PREPARING)
    # What makes a version's directory loadable: adapter_config.json, or config.json of a whole model.
    configuration = models.JSONField(default=dict, blank=True, editable=False)
    priority = models.CharField(max_length=16, choices=Priority, default=Priority.NORMAL)
    weight = models.PositiveSmallIntegerField(
        default=1, help_text="Of its work among the federations' in one class."
    )
    refusal_code = models.CharField(max_length=64, blank=True, default="")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = "federation"
        constraints = [
            models.UniqueConstraint(
                fields=["name"], condition=~Q(state=FederationState.REFUSED), name="federation_name_unique"
            ),
            *state_constraints(
                "federation", FederationState.values, [FederationState.READY, FederationState.REFUSED]
            ),
            models.CheckConstraint(
                condition=Q(priority__in=Priority.values), name="federation_priority_known"
            ),
            models.CheckConstraint(
                condition=Q(weight__gte=1, weight__lte=MAX_WEIGHT), name="federation_weight_in_range"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def rules(self) -> FederationSpecification:
        """The specification, typed."""
        return FederationSpecification.model_validate(self.specification)

    def conflict(self, target: str) -> FederationStateConflict:
        return FederationStateConflict(federation_id=self.public_id, state=self.state, wanted=target)


class Enrolment(TenantOwned):
    """A tenant's place in a federation: invited by an operator, active once the tenant names a dataset."""

    id_prefix = "enr"

    federation = models.ForeignKey(Federation, on_delete=models.PROTECT, related_name="enrolments")
    dataset = models.ForeignKey(
        Dataset, null=True, blank=True, on_delete=models.PROTECT, related_name="enrolments"
    )
    state = models.CharField(max_length=16, choices=EnrolmentState, default=EnrolmentState.INVITED)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = "enrolment"
        constraints = [
            models.UniqueConstraint(fields=["federation", "tenant"], name="enrolment_unique"),
            models.CheckConstraint(
                condition=Q(state__in=EnrolmentState.values), name="enrolment_state_known"
            ),
            models.CheckConstraint(
                condition=~Q(state=EnrolmentState.ACTIVE) | Q(dataset__isnull=False),
                name="enrolment_active_has_dataset",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.tenant} in {self.federation}"


class Schedule(Identified):
    """When a federation's rounds open by themselves: every so many minutes, or by a cron line in a time zone."""

    id_prefix = "sch"

    federation = models.OneToOneField(Federation, on_delete=models.CASCADE, related_name="schedule")
    every_minutes = models.PositiveIntegerField(null=True, blank=True)
    cron = models.CharField(max_length=200, blank=True, default="")
    time_zone = models.CharField(max_length=64, default="UTC")
    next_due_at = models.DateTimeField()
    last_outcome = models.TextField(blank=True, default="", editable=False)
    is_paused = models.BooleanField(default=False)

    class Meta:
        verbose_name = "schedule"
        constraints = [
            models.CheckConstraint(
                condition=Q(every_minutes__gte=1, cron="") | (Q(every_minutes=None) & ~Q(cron="")),
                name="schedule_interval_or_cron",
            ),
        ]

    def __str__(self) -> str:
        return f"every {self.every_minutes} min" if self.every_minutes else f"{self.cron} ({self.time_zone})"

    def as_rule(self) -> dict[str, Any]:
        """The rule alone, as a caller wrote it."""
        if self.every_minutes:
            return {"every_minutes": self.every_minutes}
        return {"cron": self.cron, "time_zone": self.time_zone}
