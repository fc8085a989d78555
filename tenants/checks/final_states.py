"""Whether the database keeps final states final, and knows the same ones as the models' tables of moves."""

import re
from collections.abc import Iterator

from django.apps import apps
from django.core import checks
from django.db.backends.utils import CursorWrapper

from tenants.final_states import TRIGGER
from tenants.transitions import Stateful


def final_state_problems(cursor: CursorWrapper) -> Iterator[checks.Error]:
    """Tables of rows with states that can leave an end, or that a trigger holds in a state that is none."""
    cursor.execute(
        "SELECT relname, pg_get_triggerdef(pg_trigger.oid) FROM pg_class"
        " LEFT JOIN pg_trigger ON tgrelid = pg_class.oid AND tgname = %s AND tgenabled = 'O'"
        " WHERE relnamespace = current_schema()::regnamespace",
        [TRIGGER],
    )
    triggers = {table: set(re.findall(r"'(\w+)'::", text or "")) for table, text in cursor.fetchall()}
    for model in (model for model in apps.get_models() if issubclass(model, Stateful)):
        table = model._meta.db_table
        wanted = {str(state) for state, targets in model.transitions.items() if not targets}
        if table in triggers and triggers[table] != wanted:
            message = f"{table} holds {sorted(triggers[table])} to be final states; its model says {sorted(wanted)}."
            hint = f'Add final_states("{table}", {sorted(wanted)}) to a migration of {model._meta.app_label}.'
            yield checks.Error(message, hint=hint, obj=model, id="tenants.E008")
