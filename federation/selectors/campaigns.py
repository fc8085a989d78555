"""How far campaigns are, and the best that came of them, for a whole page of them in a few queries."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Count, QuerySet

from federation.models import Campaign, FederatedRound, Federation, PrefixVersion
from federation.selectors import measures, visibility
from federation.states import ROUND_LIVE, RoundState

_N_CAMPAIGNS = 5


@dataclass(frozen=True)
class CampaignProgress:
    """One campaign: its rounds so far by state, the live one, and the last version that it published: its best."""

    campaign: Campaign
    n_rounds_by_state: dict[str, int]
    live_round: FederatedRound | None
    best_version: PrefixVersion | None
    best_score: float | None

    @property
    def n_ended(self) -> int:
        """Rounds that are over, whatever came of them."""
        return sum(n for state, n in self.n_rounds_by_state.items() if state not in ROUND_LIVE)

    @property
    def percent(self) -> int:
        """For a progress bar; a last round that is held again does not lengthen it."""
        return min(100, round(100 * self.n_ended / self.campaign.n_rounds))


def campaign_progress(campaigns: Sequence[Campaign]) -> dict[object, CampaignProgress]:
    """Progress by the campaigns' keys. Scores are means over the tenants that the scope in force may see."""
    rounds = FederatedRound.objects.filter(campaign__in=campaigns)
    counted: dict[object, dict[str, int]] = {}
    for key, state, n in rounds.values_list("campaign", "state").annotate(n=Count("id")).order_by("state"):
        counted.setdefault(key, {})[state] = n
    live = {one.campaign_id: one for one in rounds.filter(state__in=ROUND_LIVE)}
    best = {one.campaign_id: one.candidate_version for one in _last_published(rounds)}
    scores = measures.score_versions([version for version in best.values() if version])
    return {
        one.pk: CampaignProgress(
            campaign=one,
            n_rounds_by_state=counted.get(one.pk, {}),
            live_round=live.get(one.pk),
            best_version=(version := best.get(one.pk)),
            best_score=scores[version.pk].mean if version and version.pk in scores else None,
        )
        for one in campaigns
    }


def _last_published(rounds: QuerySet[FederatedRound]) -> QuerySet[FederatedRound]:
    """Of each campaign: it publishes better versions alone, so that the last one is its best."""
    published = rounds.filter(state=RoundState.PUBLISHED).select_related("candidate_version")
    return published.order_by("campaign", "-number").distinct("campaign")


def newest_campaigns(*, federation: Federation) -> list[CampaignProgress]:
    """The federation's newest campaigns, whatever their state."""
    held = visibility.campaigns().filter(federation=federation).select_related("federation")
    newest = list(held.order_by("-id")[:_N_CAMPAIGNS])
    progress = campaign_progress(newest)
    return [progress[one.pk] for one in newest]
