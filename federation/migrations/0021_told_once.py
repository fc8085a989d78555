"""Of local runs that end at the same moment one alone tells the coordinator that the training is over."""

from typing import ClassVar

from django.db import migrations, models

# Both of two that look after they have ended may find that nothing is left. The round's row decides which of them
# tells: the second one waits for the first one's commit, and finds it told. No run of a round begins anew once none
# waits or runs, so that one message is enough; what becomes of it, the reconciler sees to.
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
    UPDATE federation_federatedround SET is_training_told = true
    WHERE id = round AND state = 'training' AND NOT is_training_told;
    is_over := FOUND;
END $$
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("federation", "0020_claims_and_looks")]
    operations: ClassVar = [
        migrations.AddField(
            model_name="federatedround",
            name="is_training_told",
            field=models.BooleanField(default=False, editable=False),
        ),
        migrations.RunSQL(_LOOK_AFTER_RUN, migrations.RunSQL.noop),
    ]
