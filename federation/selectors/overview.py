"""What the scope in force may see, at a glance: what the dashboard counts."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.db.models.functions import Now

from federation.models import Enrolment, FederatedRound
from federation.selectors import visibility
from federation.states import ROUND_TERMINAL, EnrolmentState, FederationState
from tenants import selectors
from tenants.states import TenantState

_N_FINISHED = 8


@dataclass(frozen=True)
class Overview:
    """Counts over all that is visible, and what they mean in words."""

    n_federations: int
    n_federations_ready: int
    n_rounds: int
    n_tenants: int
    n_places: int
    n_versions: int
    n_published_today: int
    n_waiting: int
    n_running: int

    @property
    def n_work(self) -> int:
        """Work that is not done."""
        return self.n_waiting + self.n_running

    @property
    def ready_told(self) -> str:
        """How many federations can hold rounds."""
        return f"{self.n_federations_ready} ready for rounds"

    @property
    def rounds_told(self) -> str:
        """How much of it is behind us."""
        return f"{self.n_rounds} held so far"

    @property
    def places_told(self) -> str:
        """How many places they take in federations."""
        return f"{self.n_places} places in federations"

    @property
    def versions_told(self) -> str:
        """How many versions there are."""
        return f"of {self.n_versions} versions in all"

    @property
    def work_told(self) -> str:
        """What waits and what is being done."""
        return f"{self.n_running} running, {self.n_waiting} waiting"


def overview() -> Overview:
    """Count everything once."""
    federations = visibility.federations()
    recent = visibility.publish_records().filter(recorded_at__gte=Now() - timedelta(hours=24))
    return Overview(
        n_federations=federations.count(),
        n_federations_ready=federations.filter(state=FederationState.READY).count(),
        n_rounds=visibility.rounds().count(),
        n_tenants=selectors.tenants().filter(state=TenantState.ACTIVE).count(),
        n_places=Enrolment.objects.filter(state=EnrolmentState.ACTIVE).count(),
        n_versions=visibility.prefix_versions().count(),
        n_published_today=recent.values("new").distinct().count(),
        n_waiting=sum(_waiting(rows) for rows in _work()),
        n_running=sum(_running(rows) for rows in _work()),
    )


def _work() -> Iterable[QuerySet[Any]]:
    """Of the training side, by its kinds: rows of models that are `Leased`."""
    return (
        visibility.base_models(),
        selectors.datasets(),
        visibility.federations(),
        visibility.local_runs(),
        visibility.evaluations(),
        visibility.personal_prefixes(),
    )


def _waiting(rows: QuerySet[Any]) -> int:
    return rows.filter(state=rows.model.waiting_state, lease_expires_at=None).count()


def _running(rows: QuerySet[Any]) -> int:
    return rows.filter(state=rows.model.running_state, lease_expires_at__isnull=False).count()


def last_finished_rounds() -> list[FederatedRound]:
    """The rounds that ended last, with outcome and reason."""
    ended = visibility.rounds().filter(state__in=ROUND_TERMINAL)
    return list(
        ended.select_related("federation", "candidate_version").order_by("-finished_at")[:_N_FINISHED]
    )
