"""What has ended stays ended: PostgreSQL refuses to change a final state, even to the platform."""

from collections.abc import Iterator

import pytest
from django.apps import apps
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from tenants import scoping
from tenants.transitions import Stateful
from tests.factories import (
    BaseModelFactory,
    CampaignFactory,
    DatasetFactory,
    EvaluationFactory,
    FederatedRoundFactory,
    FederationFactory,
    LocalRunFactory,
    PersonalPrefixFactory,
)

pytestmark = pytest.mark.django_db
FACTORIES = {
    factory._meta.model: factory
    for factory in (
        BaseModelFactory,
        CampaignFactory,
        DatasetFactory,
        EvaluationFactory,
        FederatedRoundFactory,
        FederationFactory,
        LocalRunFactory,
        PersonalPrefixFactory,
    )
}


def ends() -> Iterator[tuple[type[Stateful], str, str]]:
    """Every model with states, each of its final states, and each other state."""
    for model in apps.get_models():
        if issubclass(model, Stateful):
            final = [state for state, targets in model.transitions.items() if not targets]
            yield from ((model, end, other) for end in final for other in model.transitions if other != end)


def write(row: Stateful, state: str, *, is_final: bool) -> None:
    """As no code of ours would: past the model, as the platform."""
    finished_at = timezone.now() if is_final else None
    with scoping.platform(), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {row._meta.db_table} SET state = %s, finished_at = %s WHERE id = %s",
            [state, finished_at, row.pk],
        )


@pytest.mark.parametrize(
    ("model", "end", "other"),
    [pytest.param(*case, id=f"{case[0].__name__}-{case[1]}-{case[2]}") for case in ends()],
)
def test_no_statement_leads_out_of_a_final_state(model: type[Stateful], end: str, other: str) -> None:
    row = FACTORIES[model].create(state=end, finished_at=timezone.now())
    with pytest.raises(IntegrityError, match=f"is {end}, which is final; it cannot become {other}"):
        write(row, other, is_final=not model.transitions[other])


@pytest.mark.parametrize("model", FACTORIES)
def test_the_rest_of_a_finished_row_may_change(model: type[Stateful]) -> None:
    end = next(state for state, targets in model.transitions.items() if not targets)
    row = FACTORIES[model].create(state=end, finished_at=timezone.now())
    with scoping.platform():
        row.state, row.state_reason = end, "seen again"
        row.save(update_fields=["state", "state_reason"])
