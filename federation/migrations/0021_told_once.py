"""Of pieces of a round that end at the same moment one alone tells the coordinator."""

from typing import ClassVar

from django.db import migrations, models

# Both of two that look after they have ended may find that nothing is left. The round's row decides which of them
# tells: the second one waits for the first one's commit, and finds it told.
_LOOK_AFTER_RUN = """
DROP FUNCTION federation_look_after_run(uuid, uuid);
CREATE FUNCTION federation_look_after_run(
    ended uuid, round uuid, OUT is_over boolean, OUT is_first_to_check boolean
) LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    is_over := false;
    is_first_to_check := false;
    IF EXISTS (
        SELECT FROM federation_localrun WHERE federated_round_id = round AND state IN ('queued', 'running')
    ) THEN
        is_first_to_check := EXISTS (
            SELECT FROM federation_localrun own WHERE own.id = ended AND own.state = 'submitted' AND NOT EXISTS (
                SELECT FROM federation_localrun older
                WHERE older.federated_round_id = round AND older.state = 'submitted'
                    AND (older.state_changed_at, older.id) < (own.state_changed_at, own.id)
            )
        );
        RETURN;
    END IF;
    UPDATE federation_federatedround SET told_in = state WHERE id = round AND state = 'training' AND told_in <> state;
    is_over := FOUND;
END $$
"""

_TELL_SCORED = """
CREATE FUNCTION federation_tell_scored(version uuid) RETURNS SETOF uuid
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE scored uuid;
BEGIN
    FOR scored IN SELECT federation_look_after_score(version) LOOP
        UPDATE federation_federatedround SET told_in = state WHERE id = scored AND told_in <> state;
        IF FOUND THEN
            RETURN NEXT scored;
        END IF;
    END LOOP;
END $$
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("federation", "0020_claims_and_looks")]
    operations: ClassVar = [
        migrations.AddField(
            model_name="federatedround",
            name="told_in",
            field=models.CharField(blank=True, default="", editable=False, max_length=16),
        ),
        migrations.RunSQL(_LOOK_AFTER_RUN, migrations.RunSQL.noop),
        migrations.RunSQL(_TELL_SCORED, "DROP FUNCTION federation_tell_scored(uuid)"),
    ]
