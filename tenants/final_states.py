"""Migration operations and their names: a state that no move leads out of is not left, whoever writes the row.

`Stateful.move_to` refuses such a move in Python; the trigger holds for every other statement too.
"""

from collections.abc import Iterable

from django.db.migrations import RunSQL

TRIGGER = "final_states"
_FUNCTION = "refuse_to_leave_final_state"


def final_state_function() -> RunSQL:
    """The function that all these triggers call; made once."""
    return RunSQL(
        sql=f"""
            CREATE FUNCTION {_FUNCTION}() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
            BEGIN
                RAISE EXCEPTION 'row % of % is %, which is final; it cannot become %',
                    OLD.id, TG_TABLE_NAME, OLD.state, NEW.state USING ERRCODE = 'check_violation';
            END
            $$
        """,
        reverse_sql=f"DROP FUNCTION {_FUNCTION}()",
    )


def final_states(table: str, states: Iterable[str]) -> RunSQL:
    """A row of `table` in one of these states keeps its state. Run it again when the states change."""
    listed = ", ".join(f"'{state}'" for state in sorted(states))
    return RunSQL(
        sql=f"CREATE OR REPLACE TRIGGER {TRIGGER} BEFORE UPDATE ON {table} FOR EACH ROW"
        f" WHEN (OLD.state IN ({listed}) AND NEW.state IS DISTINCT FROM OLD.state)"
        f" EXECUTE FUNCTION {_FUNCTION}()",
        reverse_sql=f"DROP TRIGGER {TRIGGER} ON {table}",
    )
