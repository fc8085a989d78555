"""Webhooks: endpoints that are told of events, their secrets, the messages to them, every attempt to deliver one."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from federation.states import DeliveryState, WebhookState
from tenants.models import TenantOwned


class OwnedByTenantOrOperators(TenantOwned):
    """A tenant's row; with no tenant it is the operators'."""

    tenant = models.ForeignKey(  # type: ignore[assignment]  # the operators' own belong to no tenant
        "tenants.Tenant", null=True, on_delete=models.PROTECT, related_name="%(class)ss"
    )

    class Meta:
        abstract = True


class WebhookEndpoint(OwnedByTenantOrOperators):
    """An address that is told of the events that its owner may see."""

    id_prefix = "whe"

    url = models.CharField(max_length=2_000)
    kinds = models.JSONField(default=list, blank=True, help_text="Of events; none: all.")
    description = models.CharField(max_length=200, blank=True, default="")
    state = models.CharField(max_length=16, choices=WebhookState, default=WebhookState.ACTIVE)
    state_reason = models.TextField(blank=True, default="")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    last_delivered_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        verbose_name = "webhook"
        constraints = [
            models.CheckConstraint(condition=Q(state__in=WebhookState.values), name="webhook_state_known")
        ]

    def __str__(self) -> str:
        return self.url


class WebhookSecret(OwnedByTenantOrOperators):
    """A signing secret, encrypted. Several may be valid at once, so that receivers can change over."""

    id_prefix = "whs"

    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="secrets")
    sealed = models.BinaryField(editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, help_text="Set when a newer one was made.")

    class Meta:
        verbose_name = "webhook secret"

    def __str__(self) -> str:
        return self.public_id


class WebhookDelivery(OwnedByTenantOrOperators):
    """A message to an endpoint. Its public id is the `webhook-id` of every attempt.

    `attempt` grows with each claim and is the fencing token: only the last claim's outcome moves the state.
    """

    id_prefix = "whd"

    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries")
    kind = models.CharField(max_length=64)
    body = models.TextField(help_text="As it is sent, to the byte.")
    state = models.CharField(max_length=16, choices=DeliveryState, default=DeliveryState.WAITING)
    attempt = models.PositiveIntegerField(default=0)
    n_failures = models.PositiveIntegerField(default=0, help_text="Since it began to wait.")
    waiting_since = models.DateTimeField(db_default=Now())
    due_at = models.DateTimeField(db_default=Now())
    lease_expires_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "webhook delivery"
        verbose_name_plural = "webhook deliveries"
        constraints = [
            models.CheckConstraint(
                condition=Q(state=DeliveryState.WAITING, finished_at=None)
                | Q(state__in=[DeliveryState.DELIVERED, DeliveryState.FAILED], finished_at__isnull=False),
                name="webhook_delivery_finished_at_iff_ended",
            ),
        ]
        indexes = [
            models.Index(
                fields=["endpoint", "due_at", "id"],
                condition=Q(state=DeliveryState.WAITING),
                name="webhook_delivery_due",
            ),
            models.Index(fields=["finished_at"], name="webhook_delivery_finished"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} to {self.endpoint}"


class WebhookAttempt(OwnedByTenantOrOperators):
    """What came of sending a message once."""

    id_prefix = "wha"

    delivery = models.ForeignKey(WebhookDelivery, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    latency_seconds = models.FloatField()
    status_code = models.PositiveSmallIntegerField(null=True, help_text="None: no answer came.")
    error = models.CharField(max_length=200, blank=True, default="")
    response_excerpt = models.TextField(blank=True, default="", help_text="The answer's first bytes.")

    class Meta:
        verbose_name = "webhook attempt"
        ordering = ["number"]

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.delivery}"


class WebhookPlace(models.Model):
    """How far in the stream of events the messages to webhooks were written: one row."""

    id = models.SmallIntegerField(primary_key=True)
    number = models.BigIntegerField()

    class Meta:
        verbose_name = "webhook place"
        constraints = [models.CheckConstraint(condition=Q(id=1), name="webhook_place_one_row")]

    def __str__(self) -> str:
        return str(self.number)
