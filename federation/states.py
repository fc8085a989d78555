"""States and moves of a federation's things, as pure data."""

from django.db import models


class RoundState(models.TextChoices):
    """A round from its opening to its end."""

    OPEN = "open"
    TRAINING = "training"
    AGGREGATING = "aggregating"
    EVALUATING = "evaluating"
    PUBLISHED = "published"
    KEPT = "kept"
    FAILED = "failed"
    CANCELED = "canceled"


class CampaignState(models.TextChoices):
    """Rounds that were asked for as one. It is completed when all were held, or early when no more gain was seen."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


class LocalRunState(models.TextChoices):
    """One tenant's training within a round."""

    QUEUED = "queued"
    RUNNING = "running"
    SUBMITTED = "submitted"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELED = "canceled"


class EvaluationState(models.TextChoices):
    """One version's score on one tenant's held-out rows."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


class PersonalPrefixState(models.TextChoices):
    """A tenant's own prefix, from its request to its end."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


class PersonalRule(models.TextChoices):
    """How a tenant grows its own prefix from a shared version."""

    FINE_TUNE = "fine_tune"
    DITTO = "ditto"
    PERSONAL_VALUES = "personal_values"
    PRIOR = "prior"


class FederationState(models.TextChoices):
    """A federation can hold rounds once its start prefix is there."""

    PREPARING = "preparing"
    READY = "ready"
    REFUSED = "refused"


class Priority(models.TextChoices):
    """Which waiting work goes first, before any fairness: a class starts nothing while a higher one has work."""

    BACKGROUND = "background"
    NORMAL = "normal"
    URGENT = "urgent"


class BaseModelState(models.TextChoices):
    """A base model is usable once the training side has read it."""

    REGISTERING = "registering"
    READY = "ready"
    REFUSED = "refused"


class EnrolmentState(models.TextChoices):
    """A tenant's place in a federation."""

    INVITED = "invited"
    ACTIVE = "active"
    LEFT = "left"


_R, _L, _E, _P = RoundState, LocalRunState, EvaluationState, PersonalPrefixState

ROUND_TRANSITIONS: dict[str, tuple[str, ...]] = {
    _R.OPEN: (_R.TRAINING, _R.FAILED, _R.CANCELED),
    _R.TRAINING: (_R.AGGREGATING, _R.FAILED, _R.CANCELED),
    _R.AGGREGATING: (_R.EVALUATING, _R.KEPT, _R.FAILED, _R.CANCELED),
    _R.EVALUATING: (_R.PUBLISHED, _R.KEPT, _R.FAILED, _R.CANCELED),
    _R.PUBLISHED: (),
    _R.KEPT: (),
    _R.FAILED: (),
    _R.CANCELED: (),
}
ROUND_TERMINAL: tuple[str, ...] = tuple(state for state, targets in ROUND_TRANSITIONS.items() if not targets)
ROUND_LIVE: tuple[str, ...] = tuple(state for state, targets in ROUND_TRANSITIONS.items() if targets)

CAMPAIGN_TRANSITIONS: dict[str, tuple[str, ...]] = {
    CampaignState.RUNNING: (CampaignState.COMPLETED, CampaignState.FAILED, CampaignState.CANCELED),
    CampaignState.COMPLETED: (),
    CampaignState.FAILED: (),
    CampaignState.CANCELED: (),
}
CAMPAIGN_TERMINAL: tuple[str, ...] = tuple(
    state for state, targets in CAMPAIGN_TRANSITIONS.items() if not targets
)
CAMPAIGN_LIVE: tuple[str, ...] = tuple(state for state, targets in CAMPAIGN_TRANSITIONS.items() if targets)

LOCAL_RUN_TRANSITIONS: dict[str, tuple[str, ...]] = {
    _L.QUEUED: (_L.RUNNING, _L.FAILED, _L.CANCELED),
    _L.RUNNING: (_L.QUEUED, _L.SUBMITTED, _L.FAILED, _L.CANCELED),
    _L.SUBMITTED: (_L.ACCEPTED, _L.REJECTED, _L.CANCELED),
    _L.ACCEPTED: (),
    _L.REJECTED: (),
    _L.FAILED: (),
    _L.CANCELED: (),
}
LOCAL_RUN_TERMINAL: tuple[str, ...] = tuple(
    state for state, targets in LOCAL_RUN_TRANSITIONS.items() if not targets
)

EVALUATION_TRANSITIONS: dict[str, tuple[str, ...]] = {
    _E.QUEUED: (_E.RUNNING, _E.COMPLETED, _E.FAILED, _E.CANCELED),
    _E.RUNNING: (_E.QUEUED, _E.COMPLETED, _E.FAILED, _E.CANCELED),
    _E.COMPLETED: (),
    _E.FAILED: (),
    _E.CANCELED: (),
}
EVALUATION_TERMINAL: tuple[str, ...] = tuple(
    s for s, targets in EVALUATION_TRANSITIONS.items() if not targets
)
EVALUATION_GIVEN_UP: tuple[str, ...] = (_E.FAILED, _E.CANCELED)

PERSONAL_PREFIX_TRANSITIONS: dict[str, tuple[str, ...]] = {
    _P.QUEUED: (_P.RUNNING, _P.FAILED, _P.CANCELED),
    _P.RUNNING: (_P.QUEUED, _P.COMPLETED, _P.FAILED, _P.CANCELED),
    _P.COMPLETED: (),
    _P.FAILED: (),
    _P.CANCELED: (),
}
PERSONAL_PREFIX_TERMINAL: tuple[str, ...] = tuple(
    state for state, targets in PERSONAL_PREFIX_TRANSITIONS.items() if not targets
)
PERSONAL_PREFIX_LIVE: tuple[str, ...] = tuple(
    state for state, targets in PERSONAL_PREFIX_TRANSITIONS.items() if targets
)

FEDERATION_TRANSITIONS: dict[str, tuple[str, ...]] = {
    FederationState.PREPARING: (FederationState.READY, FederationState.REFUSED),
    FederationState.READY: (),
    FederationState.REFUSED: (),
}
BASE_MODEL_TRANSITIONS: dict[str, tuple[str, ...]] = {
    BaseModelState.REGISTERING: (BaseModelState.READY, BaseModelState.REFUSED),
    BaseModelState.READY: (),
    BaseModelState.REFUSED: (),
}


class WebhookState(models.TextChoices):
    """Nothing is sent to a disabled endpoint: neither what waited for it, nor what happens meanwhile."""

    ACTIVE = "active"
    DISABLED = "disabled"


class DeliveryState(models.TextChoices):
    """A message to a webhook endpoint. One that has ended waits again when it is re-sent by hand."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


LEFT_OUT = "local_run.left_out"
LOCAL_RUN_STOPPED = "local_run.stopped"
EVENT_KINDS = (
    *(f"campaign.{state}" for state in CampaignState.values),
    *(f"round.{state}" for state in RoundState.values),
    *(f"local_run.{state}" for state in LocalRunState.values),
    LEFT_OUT,
    LOCAL_RUN_STOPPED,
)
"""Every kind that a round's event may have."""
