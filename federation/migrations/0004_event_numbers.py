"""A place in the stream for each event, given after its commit."""

from typing import ClassVar

from django.db import migrations

# Numbers are unique over all tenants, which the model does not declare: no tenant's insert sets one, so that no refusal
# tells anything of other tenants' rows. A sequence, since the highest number that there is may be erased one day.
_NUMBERS = """
CREATE SEQUENCE federation_event_numbers OWNED BY federation_roundevent.number;
CREATE UNIQUE INDEX round_event_number_unique ON federation_roundevent (number);
CREATE INDEX round_event_unnumbered ON federation_roundevent (id) WHERE number IS NULL;
GRANT UPDATE (number) ON federation_roundevent TO prelude_platform;
CREATE FUNCTION round_event_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'an event keeps the place that it was given' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER round_event_placed_once BEFORE UPDATE ON federation_roundevent
    FOR EACH ROW WHEN (OLD.number IS NOT NULL) EXECUTE FUNCTION round_event_refuse();
"""

_REVERSE = """
DROP TRIGGER round_event_placed_once ON federation_roundevent;
DROP FUNCTION round_event_refuse();
REVOKE UPDATE (number) ON federation_roundevent FROM prelude_platform;
DROP INDEX round_event_unnumbered;
DROP INDEX round_event_number_unique;
DROP SEQUENCE federation_event_numbers;
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("federation", "0003_final_states")]
    operations: ClassVar = [migrations.RunSQL(sql=_NUMBERS, reverse_sql=_REVERSE)]
