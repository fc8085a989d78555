"""Scores of versions on tenants' held-out rows: asked for, and written once."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from django.db import transaction

from federation.models import Enrolment, Evaluation, Federation, PrefixVersion
from federation.services import looking
from federation.states import EVALUATION_GIVEN_UP, EvaluationState
from tenants import dispatch
from tenants.failpoints import FailPoint, reach
from tenants.models import Dataset
from tenants.services import attempts


class Place(NamedTuple):
    """Where a version is scored: a dataset, and the tenant whose it is."""

    dataset_id: UUID
    tenant_id: UUID


def request_first(*, enrolment: Enrolment) -> None:
    """Measure the base model and the published version where a tenant begins: what later rounds are compared with."""
    assert enrolment.dataset is not None
    for version in (None, enrolment.federation.published.version):
        place = Place(enrolment.dataset.pk, enrolment.tenant_id)
        request(federation=enrolment.federation, version=version, places=[place])


def request(*, federation: Federation, version: PrefixVersion | None, places: Sequence[Place]) -> None:
    """Have `version` (None: the base model alone) scored on the held-out rows of each dataset where it was not yet.

    One that was given up or cut off by its round's end is asked for anew: later rounds compare with this version.
    """
    with transaction.atomic(savepoint=False):
        asked = Evaluation.objects.exclude(state__in=EVALUATION_GIVEN_UP).filter(
            federation=federation, version=version, dataset__in=[place.dataset_id for place in places]
        )
        known = set(asked.values_list("dataset_id", flat=True))
        new = [
            Evaluation(federation=federation, version=version, **place._asdict(), **dispatch.TOLD)
            for place in places
            if place.dataset_id not in known
        ]
        # Somebody else may have asked since: then theirs stays, and one message is too many.
        dispatch.wake_workers(Evaluation.objects.bulk_create(new, ignore_conflicts=True))


def complete_evaluation(*, evaluation: Evaluation, accuracy: float, loss: float, n_rows: int) -> None:
    """Write the score. Raises LeaseLost for a stale attempt."""
    attempts.end(evaluation, EvaluationState.COMPLETED, accuracy=accuracy, loss=loss, n_rows=n_rows)
    looking.after_score(evaluation)
    reach(FailPoint.EVALUATION_COMPLETED)


def fail_evaluation(*, evaluation: Evaluation, reason: str) -> None:
    """The attempt ended for a reason that another attempt would meet again. Raises LeaseLost for a stale attempt."""
    attempts.end(evaluation, EvaluationState.FAILED, reason=reason)
    looking.after_score(evaluation)


def record_measured(
    *, federation: Federation, version: PrefixVersion, dataset: Dataset, score: dict[str, float]
) -> None:
    """Keep a score that a local run has measured itself, if nobody was quicker."""
    with transaction.atomic():
        evaluation = (
            Evaluation.objects.select_for_update()
            .filter(federation=federation, version=version, dataset=dataset, state=EvaluationState.QUEUED)
            .first()
        )
        if evaluation is not None:
            evaluation.move_to(
                EvaluationState.COMPLETED,
                accuracy=score["accuracy"],
                loss=score["loss"],
                n_rows=int(score["n_rows"]),
            )
