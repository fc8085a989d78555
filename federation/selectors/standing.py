"""Where a federation stands: its tenants with their scores, its versions, its newest rounds."""

from dataclasses import dataclass
from uuid import UUID

from django.db.models import Q

from federation.models import (
    Campaign,
    Enrolment,
    Evaluation,
    FederatedRound,
    Federation,
    PersonalPrefix,
    PrefixVersion,
)
from federation.selectors import visibility
from federation.selectors.charts import MOST, AccuracyChart, label_of
from federation.states import EnrolmentState, EvaluationState

_N_ROUNDS = 10
_N_PERSONAL_PREFIXES = 10


@dataclass(frozen=True)
class TenantStanding:
    """A tenant's place, with its held-out accuracy without a prefix and with the published one."""

    enrolment: Enrolment
    base: float | None
    published: float | None

    @property
    def n_train(self) -> int | None:
        """Rows that it trains on."""
        return self.enrolment.dataset.facts.get("n_train") if self.enrolment.dataset else None


@dataclass(frozen=True)
class VersionStanding:
    """A version with the mean and the worst of its tenants' scores."""

    version: PrefixVersion
    mean: float | None
    worst: float | None
    is_published: bool


def tenants(*, federation: Federation, published: PrefixVersion | None) -> list[TenantStanding]:
    """Everybody who was ever invited, those who take part first."""
    wanted = Evaluation.objects.filter(federation=federation, state=EvaluationState.COMPLETED)
    wanted = (
        wanted.filter(Q(version=None) | Q(version=published)) if published else wanted.filter(version=None)
    )
    scores: dict[tuple[UUID | None, UUID | None], float | None] = {
        (score.dataset_id, score.version_id): score.accuracy for score in wanted
    }
    enrolments = Enrolment.objects.filter(federation=federation).select_related("tenant", "dataset")
    found = sorted(
        enrolments, key=lambda enrolment: (enrolment.state != EnrolmentState.ACTIVE, enrolment.tenant.name)
    )
    return [
        TenantStanding(
            enrolment=enrolment,
            base=scores.get((enrolment.dataset_id, None)),
            published=scores.get((enrolment.dataset_id, published.pk)) if published else None,
        )
        for enrolment in found
    ]


def gain(tenants: list[TenantStanding]) -> float | None:
    """The mean gain of the published version on the base model, over the tenants that have measured both."""
    gains = [
        one.published - one.base for one in tenants if one.published is not None and one.base is not None
    ]
    return sum(gains) / len(gains) if gains else None


def versions(
    *, federation: Federation, published: PrefixVersion | None, chart: AccuracyChart
) -> list[VersionStanding]:
    """The newest versions, with their scores out of the chart."""
    newest = PrefixVersion.objects.filter(federation=federation).select_related(
        "made_in_round", "federation__published"
    )
    return [
        VersionStanding(
            version=version,
            mean=chart.mean_at(label_of(version.number)),
            worst=chart.worst_at(label_of(version.number)),
            is_published=version == published,
        )
        for version in newest.order_by("-number")[:MOST]
    ]


def newest_rounds(*, of: Federation | Campaign) -> list[FederatedRound]:
    """The newest rounds of a federation or a campaign, whatever their state."""
    rounds = of.rounds.select_related("federation", "parent_version", "candidate_version")
    return list(rounds.order_by("-number")[:_N_ROUNDS])


def newest_personal_prefixes(*, federation: Federation) -> list[PersonalPrefix]:
    """What the tenant in force has grown for itself last."""
    own = visibility.personal_prefixes().filter(federation=federation)
    return list(own.select_related("tenant", "version__federation").order_by("-id")[:_N_PERSONAL_PREFIXES])
