"""Campaigns: rounds of one federation that were asked for as one."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from federation.errors import CampaignStateConflict
from federation.models.constraints import state_constraints
from federation.models.federations import Federation
from federation.states import CAMPAIGN_LIVE, CAMPAIGN_TERMINAL, CAMPAIGN_TRANSITIONS, CampaignState
from tenants.transitions import Stateful

MAX_ROUNDS = 1_000


class Campaign(Stateful):
    """Rounds in a chain: each trains from the candidate of the one before, the best version is published."""

    id_prefix = "cmp"
    transitions = CAMPAIGN_TRANSITIONS

    federation = models.ForeignKey(Federation, on_delete=models.PROTECT, related_name="campaigns")
    state = models.CharField(max_length=16, choices=CampaignState, default=CampaignState.RUNNING)
    n_rounds = models.PositiveIntegerField(
        help_text="Rounds that it holds at most, whatever comes of each; only a last one that fails is held again, "
        "where the candidate before it was not scored."
    )
    patience = models.PositiveIntegerField(
        null=True,
        help_text="Evaluated rounds without a better version after which it ends; none: it goes on.",
    )
    evaluate_every = models.PositiveIntegerField(
        default=1, help_text="Every so many rounds the candidate is scored; the last one's always is."
    )
    started_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = "campaign"
        constraints = [
            *state_constraints("campaign", CampaignState.values, CAMPAIGN_TERMINAL),
            models.CheckConstraint(
                condition=Q(n_rounds__gte=1, n_rounds__lte=MAX_ROUNDS, evaluate_every__gte=1)
                & (Q(patience=None) | Q(patience__gte=1)),
                name="campaign_counts_in_range",
            ),
            models.UniqueConstraint(
                fields=["federation"],
                condition=Q(state__in=CAMPAIGN_LIVE),
                name="campaign_one_live_per_federation",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.federation}, {self.n_rounds} rounds"

    def evaluates(self, place: int) -> bool:
        """Whether the candidate of its round at `place`, counted from 1, is scored."""
        return place % self.evaluate_every == 0 or place >= self.n_rounds

    def conflict(self, target: str) -> CampaignStateConflict:
        return CampaignStateConflict(campaign_id=self.public_id, state=self.state, wanted=target)

    def event_of_move(self, origin: str | None) -> models.Model | None:
        """Told in the events of its newest round: the stream is one of rounds' events."""
        newest = self.rounds.order_by("-number").first()
        return newest and newest.events.model(
            federated_round=newest,
            kind=f"campaign.{self.state}",
            message=self.state_reason,
            data={"from": origin, "campaign": self.public_id},
        )

    def tell_of_start(self) -> None:
        """Say that it runs, once its first round is there to be told in."""
        if event := self.event_of_move(None):
            event.save(force_insert=True)
