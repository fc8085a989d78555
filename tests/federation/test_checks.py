"""System checks of the federation's side: each turns red when its guard is taken out."""

import pytest
from django.db import connections

from federation.checks import APPEND_ONLY, check_records, record_problems


@pytest.mark.django_db
def test_records_are_append_only_as_migrated() -> None:
    assert check_records(databases=["default"]) == []


def test_no_database_is_asked_unless_it_is_named() -> None:
    assert check_records(databases=None) == []


@pytest.mark.django_db(databases=["default", "owner"])
@pytest.mark.parametrize("right", ["UPDATE", "DELETE", "TRUNCATE"])
@pytest.mark.parametrize("role", ["prelude_app", "prelude_platform"])
@pytest.mark.parametrize("table", [model._meta.db_table for model in APPEND_ONLY])
def test_a_record_that_may_be_changed_is_told(table: str, role: str, right: str) -> None:
    with connections["owner"].cursor() as cursor:
        cursor.execute(f"GRANT {right} ON {table} TO {role}")
        [problem] = record_problems(cursor)
    assert problem.id == "federation.E001"
    assert problem.msg == f"{table} is append-only, and {role} may change or remove its rows."
