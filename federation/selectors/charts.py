"""What the console's charts show, as plain numbers: scores by version, losses by step, bytes by round."""

from dataclasses import dataclass

from django.db.models import Exists, OuterRef, Q, QuerySet

from federation.models import Evaluation, FederatedRound, Federation, LocalRun, PrefixVersion
from federation.selectors.measures import measure_rounds
from federation.states import EvaluationState

BASE = "base"
MOST = 30  # versions or rounds in one chart: the newest, and the published version


@dataclass(frozen=True)
class Line:
    """One tenant's values, one for each label of the chart; None where nothing was measured."""

    name: str
    values: list[float | None]


@dataclass(frozen=True)
class AccuracyChart:
    """Held-out accuracy by version. The first label is the base model without a prefix."""

    labels: list[str]
    published: str  # the label of the published version, empty before there is one
    tenants: list[Line]
    mean: list[float | None]
    n_scores: list[int]  # how many tenants each mean is taken over

    @property
    def is_empty(self) -> bool:
        """Whether no tenant has measured anything."""
        return not self.tenants

    def mean_at(self, label: str) -> float | None:
        """The mean accuracy under a label, None where it is not shown or not measured."""
        return dict(zip(self.labels, self.mean, strict=True)).get(label)

    def worst_at(self, label: str) -> float | None:
        """The lowest tenant's accuracy under a label."""
        if label not in self.labels:
            return None
        values = [line.values[self.labels.index(label)] for line in self.tenants]
        return min((value for value in values if value is not None), default=None)


@dataclass(frozen=True)
class LossLine:
    """One local run's training loss: [step, loss] pairs."""

    name: str
    points: list[tuple[int, float]]


@dataclass(frozen=True)
class BytesChart:
    """Payload bytes by round: up are the tenants' updates, down the versions that workers fetched for them."""

    labels: list[str]
    up: list[int]
    down: list[int]


def label_of(number: int | None) -> str:
    """The name of a version on an axis."""
    return BASE if number is None else f"v{number}"


def accuracy_by_version(*, federation: Federation) -> AccuracyChart:
    """Each tenant's held-out accuracy by version; of a tenant that changed its dataset the latest score counts."""
    newest = PrefixVersion.objects.filter(federation=federation).order_by("-number")
    pointer = getattr(federation, "published", None)
    published = {pointer.version.number} if pointer else set()  # a long campaign leaves it behind
    numbers = sorted({*newest.values_list("number", flat=True)[:MOST], *published})
    labels = [BASE, *map(label_of, numbers)]
    scores: dict[str, dict[str, float]] = {}
    shown = _completed(federation).filter(Q(version=None) | Q(version__number__in=numbers))
    for tenant, number, accuracy in shown.values_list("tenant__name", "version__number", "accuracy"):
        scores.setdefault(tenant, {})[label_of(number)] = accuracy or 0.0
    columns = [[line[label] for line in scores.values() if label in line] for label in labels]
    return AccuracyChart(
        labels=labels,
        published=label_of(pointer.version.number) if pointer else "",
        tenants=[Line(name, [scores[name].get(label) for label in labels]) for name in sorted(scores)],
        mean=[sum(column) / len(column) if column else None for column in columns],
        n_scores=[len(column) for column in columns],
    )


def _completed(federation: Federation) -> QuerySet[Evaluation]:
    return Evaluation.objects.filter(federation=federation, state=EvaluationState.COMPLETED).order_by("id")


def loss_by_step(*, federated_round: FederatedRound) -> list[LossLine]:
    """The training loss of every local run of a round that has taken a step."""
    runs = LocalRun.objects.filter(federated_round=federated_round).select_related("tenant")
    return [
        LossLine(run.tenant.name, [(step, loss) for step, loss in run.history])
        for run in runs.order_by("tenant__name")
        if run.history
    ]


def newest_round_with_losses(*, federation: Federation) -> FederatedRound | None:
    """The newest round in which any tenant has taken a step."""
    stepped = LocalRun.objects.filter(federated_round=OuterRef("pk")).exclude(history=[])
    rounds = FederatedRound.objects.filter(Exists(stepped), federation=federation)
    return rounds.order_by("-number").first()


def bytes_by_round(*, federation: Federation) -> BytesChart:
    """What each of the newest rounds moved."""
    rounds = FederatedRound.objects.filter(federation=federation)
    newest = list(rounds.order_by("-number")[:MOST])
    newest.reverse()
    measures = measure_rounds(newest)
    return BytesChart(
        labels=[str(one.number) for one in newest],
        up=[measures[one.pk].up_bytes for one in newest],
        down=[measures[one.pk].down_bytes for one in newest],
    )
