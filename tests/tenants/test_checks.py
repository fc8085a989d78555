"""System checks: green as migrated, and red once a guard is taken out (by the owner, in a transaction rolled back)."""

from typing import Any

import psycopg
import pytest
from django.apps import apps
from django.core import checks
from django.db import connections, models
from django.db.models.functions import Lower

from tenants.checks import check_final_states, check_leases, check_uniqueness, check_wall
from tenants.checks.final_states import final_state_problems
from tenants.checks.keys import foreign_key_problems
from tenants.checks.wall import role_problems, wall_problems, walled_models
from tenants.models import Dataset, TenantOwned
from tests.session import SERVERS

with_owner = pytest.mark.django_db(databases=["default", "owner"])


def wall_as_owner_changes_it(*statements: str) -> list[str]:
    """What the check says after the owner's statements, which the test rolls back."""
    with connections["owner"].cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return [f"{problem.id} {problem.msg}" for problem in wall_problems(cursor)]


@pytest.mark.django_db
def test_all_is_sound_as_migrated() -> None:
    assert check_wall(databases=["default"]) == []
    assert checks.run_checks(include_deployment_checks=False, databases=["default"]) == []


def test_no_database_is_asked_unless_it_is_named() -> None:
    assert check_wall(databases=None) == []
    assert check_wall(databases=["owner"]) == []


def test_every_tenant_owned_model_is_looked_at() -> None:
    assert {model for model in apps.get_models() if issubclass(model, TenantOwned)} < set(walled_models())


@with_owner
@pytest.mark.parametrize("table", [model._meta.db_table for model in walled_models()])
def test_a_table_without_its_wall_is_told(table: str) -> None:
    problem = (
        f"tenants.E004 {table} holds tenants' rows, and row-level security is not both enabled and forced."
    )
    for statement in ("NO FORCE", "DISABLE"):
        assert wall_as_owner_changes_it(f"ALTER TABLE {table} {statement} ROW LEVEL SECURITY") == [problem]


@with_owner
@pytest.mark.parametrize("name", ["tenant_rows", "platform_rows"])
def test_a_policy_that_is_missing_is_told(name: str) -> None:
    problem = f"tenants.E005 tenants_dataset holds tenants' rows, and its policy {name} is missing."
    assert wall_as_owner_changes_it(f"DROP POLICY {name} ON tenants_dataset") == [problem]


@with_owner
@pytest.mark.parametrize(
    "statement",
    [
        "ALTER POLICY tenant_rows ON tenants_dataset TO public",
        "ALTER POLICY tenant_rows ON tenants_dataset TO prelude_app, prelude_platform",
        "ALTER POLICY tenant_rows ON tenants_dataset USING (true)",
        "ALTER POLICY tenant_rows ON tenants_dataset WITH CHECK (true)",
        "ALTER POLICY tenant_rows ON tenants_dataset"
        " USING (tenant_id = nullif(current_setting('other.tenant_id', true), '')::uuid)",
        "CREATE POLICY further ON tenants_dataset TO prelude_app USING (true)",
        "DROP POLICY shared_rows ON federation_roundevent",
    ],
)
def test_a_policy_that_was_widened_or_added_is_told(statement: str) -> None:
    [problem] = wall_as_owner_changes_it(statement)
    assert problem.startswith("tenants.E005")


@with_owner
def test_a_new_table_of_tenants_rows_without_a_wall_is_told() -> None:
    found = wall_as_owner_changes_it(
        "ALTER TABLE tenants_dataset RENAME TO old_dataset",
        "CREATE TABLE tenants_dataset (id uuid, tenant_id uuid)",
    )
    assert [problem[:12] for problem in found] == ["tenants.E004", "tenants.E005", "tenants.E005"]


@with_owner
def test_a_table_that_is_not_migrated_yet_is_left_to_the_migrations() -> None:
    assert wall_as_owner_changes_it("ALTER TABLE tenants_dataset RENAME TO old_dataset") == []


@with_owner
def test_an_application_that_logs_in_as_the_owner_is_told() -> None:
    with connections["owner"].cursor() as cursor:
        found = {problem.id: problem.msg for problem in role_problems(cursor)}
    assert set(found) == {"tenants.E001", "tenants.E003"}
    assert "tenants_dataset" in found["tenants.E003"]


@pytest.mark.parametrize("attribute", ["SUPERUSER", "BYPASSRLS"])
@pytest.mark.parametrize("role", ["prelude_app", "prelude_platform"])
def test_a_role_that_no_policy_binds_is_told(db: None, role: str, attribute: str) -> None:
    with psycopg.connect(SERVERS.superuser_database_url) as superuser, superuser.cursor() as cursor:
        cursor.execute(f"ALTER ROLE {role} {attribute}".encode())
        cursor.execute("SET SESSION AUTHORIZATION prelude_app")
        problems = role_problems(cursor)  # type: ignore[arg-type]  # psycopg's own cursor does as well
        found = [problem.msg for problem in problems if problem.id == "tenants.E002"]
        superuser.rollback()
    assert found == [f"Row-level security does not bind {role}: it is a superuser or has BYPASSRLS."]


@with_owner
@pytest.mark.parametrize(
    ("table", "column", "target"),
    [
        ("federation_enrolment", "dataset_id", "tenants_dataset"),
        ("federation_localrun", "dataset_id", "tenants_dataset"),
        ("federation_localrun", "enrolment_id", "federation_enrolment"),
        ("federation_evaluation", "dataset_id", "tenants_dataset"),
        ("federation_webhooksecret", "endpoint_id", "federation_webhookendpoint"),
        ("federation_webhookdelivery", "endpoint_id", "federation_webhookendpoint"),
        ("federation_webhookattempt", "delivery_id", "federation_webhookdelivery"),
    ],
)
def test_a_foreign_key_that_may_cross_the_wall_is_told(table: str, column: str, target: str) -> None:
    with connections["owner"].cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_{column}_same_tenant")
        [problem] = foreign_key_problems(cursor)
    assert problem.id == "tenants.E006"
    assert problem.msg == f"{table}.{column} may name a row of {target} that another tenant owns."


@pytest.mark.parametrize("fields", [["name"], []])
def test_a_unique_rule_over_all_tenants_is_told(monkeypatch: pytest.MonkeyPatch, fields: list[str]) -> None:
    rule = models.UniqueConstraint(*([] if fields else [Lower("name")]), fields=fields, name="too_wide")
    monkeypatch.setattr(Dataset._meta, "constraints", [*Dataset._meta.constraints, rule])
    assert [problem.id for problem in check_uniqueness()] == ["tenants.E007"]


@pytest.mark.django_db
def test_final_states_are_final_as_migrated() -> None:
    assert check_final_states(databases=["default"]) == []
    assert check_final_states(databases=None) == []


@with_owner
@pytest.mark.parametrize(
    "table",
    [
        "tenants_dataset",
        "federation_basemodel",
        "federation_federation",
        "federation_federatedround",
        "federation_localrun",
        "federation_evaluation",
    ],
)
@pytest.mark.parametrize("statement", ["DROP TRIGGER {} ON {}", "ALTER TABLE {1} DISABLE TRIGGER {0}"])
def test_a_final_state_that_can_be_left_is_told(table: str, statement: str) -> None:
    with connections["owner"].cursor() as cursor:
        cursor.execute(statement.format("final_states", table))
        [problem] = final_state_problems(cursor)
    assert problem.id == "tenants.E008"
    assert problem.msg.startswith(f"{table} holds [] to be final states; its model says ['")


@pytest.mark.django_db
def test_a_final_state_that_the_database_does_not_know_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    moves = {str(state): targets for state, targets in Dataset.transitions.items()}
    monkeypatch.setattr(Dataset, "transitions", {**moves, "withdrawn": ()})
    assert [problem.id for problem in check_final_states(databases=["default"])] == ["tenants.E008"]


@pytest.mark.parametrize(("beat", "lease", "is_sound"), [(15, 30, True), (16, 30, False), (40, 30, False)])
def test_a_beat_that_lets_the_lease_run_out_is_told(
    settings: Any, beat: float, lease: float, is_sound: bool
) -> None:
    settings.BEAT_SECONDS, settings.LEASE_SECONDS = beat, lease
    assert [problem.id for problem in check_leases()] == ([] if is_sound else ["tenants.E010"])
