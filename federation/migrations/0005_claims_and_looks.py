"""What is asked for with every piece of work, as functions: the server's connections keep their plans.

What the order of claims is, and why: `federation.fair_order`; what is looked for after a piece of work, and why:
`federation.services.looking`. The functions run as whoever calls them, so that the wall binds them.
"""

from typing import ClassVar

from django.db import migrations

# The flows of work that is no tenant's, and of work that is no federation's, have ids of their own.
_WAITING = """
CREATE VIEW federation_waiting WITH (security_invoker = true) AS
SELECT waiting.*,
    greatest(coalesce(among_tenants.finish_tag, 0), clock.tenants) AS tenant_tag,
    greatest(coalesce(among_federations.finish_tag, 0), clock.federations) AS federation_tag
FROM (
    SELECT kind, work.id, work.created_at,
        coalesce(work.tenant_id, '00000000-0000-0000-0000-000000000000') AS tenant,
        coalesce(federation_id, '00000000-0000-0000-0000-000000000001') AS federation,
        coalesce(federation.weight, 1) AS federation_weight,
        coalesce(limits.weight, 1) AS tenant_weight,
        CASE priority WHEN 'urgent' THEN 2 WHEN 'background' THEN 0 ELSE 1 END AS class
    FROM (
        SELECT 'local_run' AS kind, run.id, run.created_at, run.tenant_id, federation_id
        FROM federation_localrun run JOIN federation_federatedround round ON round.id = federated_round_id
        WHERE run.state = 'queued'
        UNION ALL
        SELECT 'evaluation', id, created_at, tenant_id, federation_id
        FROM federation_evaluation WHERE state = 'queued'
        UNION ALL
        SELECT 'personal_prefix', id, created_at, tenant_id, federation_id
        FROM federation_personalprefix WHERE state = 'queued'
        UNION ALL
        SELECT 'dataset', id, created_at, tenant_id, NULL
        FROM tenants_dataset WHERE state = 'validating' AND lease_expires_at IS NULL
        UNION ALL
        SELECT 'federation', id, created_at, NULL, id
        FROM federation_federation WHERE state = 'preparing' AND lease_expires_at IS NULL
        UNION ALL
        SELECT 'base_model', id, created_at, NULL, NULL
        FROM federation_basemodel WHERE state = 'registering' AND lease_expires_at IS NULL
    ) work
    LEFT JOIN federation_federation federation ON federation.id = work.federation_id
    LEFT JOIN tenants_tenantlimits limits ON limits.tenant_id = work.tenant_id
) waiting
CROSS JOIN (
    SELECT coalesce(max(tenants), 0) AS tenants, coalesce(max(federations), 0) AS federations
    FROM federation_claimclock
) clock
LEFT JOIN federation_claimshare among_tenants ON among_tenants.id = tenant
LEFT JOIN federation_claimshare among_federations ON among_federations.id = federation;
REVOKE ALL ON federation_waiting FROM prelude_app;
"""

_MAY_BEGIN = """
CREATE FUNCTION federation_may_begin(kind text, tenant uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    limits tenants_tenantlimits;
BEGIN
    SELECT * INTO limits FROM tenants_tenantlimits WHERE tenant_id = tenant;
    IF limits.concurrent_runs IS NOT NULL THEN
        IF limits.concurrent_runs <= (
            (SELECT count(*) FROM federation_localrun WHERE tenant_id = tenant AND state = 'running')
            + (SELECT count(*) FROM federation_evaluation WHERE tenant_id = tenant AND state = 'running')
            + (SELECT count(*) FROM federation_personalprefix WHERE tenant_id = tenant AND state = 'running')
            + (SELECT count(*) FROM tenants_dataset
                WHERE tenant_id = tenant AND state = 'validating' AND lease_expires_at IS NOT NULL)
        ) THEN
            RETURN false;
        END IF;
    END IF;
    IF limits.device_seconds_per_month IS NOT NULL AND kind IN ('local_run', 'personal_prefix') THEN
        RETURN limits.device_seconds_per_month > (
            SELECT coalesce(sum(device_seconds), 0) FROM tenants_usageday
            WHERE tenant_id = tenant AND day >= date_trunc('month', now() AT TIME ZONE 'UTC')::date
        );
    END IF;
    RETURN true;
END $$
"""

# A plan that was made while the tables were small has to hold when they are large: rows are found by their indexes.
_CLAIM = """
CREATE FUNCTION federation_claim(kind text, wanted uuid, worker text, lease interval) RETURNS jsonb
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    begun timestamptz := clock_timestamp();
    claimed jsonb;
    fetched bigint;
BEGIN
    CASE kind
    WHEN 'local_run' THEN
        UPDATE federation_localrun SET attempt = attempt + 1, lease_owner = worker, claimed_at = begun,
            lease_expires_at = begun + lease, state = 'running', progress = '{}', history = '[]'
        WHERE id = wanted AND state = 'queued' AND lease_expires_at IS NULL;
    WHEN 'evaluation' THEN
        UPDATE federation_evaluation SET attempt = attempt + 1, lease_owner = worker, claimed_at = begun,
            lease_expires_at = begun + lease, state = 'running'
        WHERE id = wanted AND state = 'queued' AND lease_expires_at IS NULL;
    WHEN 'personal_prefix' THEN
        UPDATE federation_personalprefix SET attempt = attempt + 1, lease_owner = worker, claimed_at = begun,
            lease_expires_at = begun + lease, state = 'running'
        WHERE id = wanted AND state = 'queued' AND lease_expires_at IS NULL;
    WHEN 'dataset' THEN
        UPDATE tenants_dataset SET attempt = attempt + 1, lease_owner = worker, claimed_at = begun,
            lease_expires_at = begun + lease
        WHERE id = wanted AND state = 'validating' AND lease_expires_at IS NULL;
    WHEN 'federation' THEN
        UPDATE federation_federation SET attempt = attempt + 1, lease_owner = worker, claimed_at = begun,
            lease_expires_at = begun + lease
        WHERE id = wanted AND state = 'preparing' AND lease_expires_at IS NULL;
    WHEN 'base_model' THEN
        UPDATE federation_basemodel SET attempt = attempt + 1, lease_owner = worker, claimed_at = begun,
            lease_expires_at = begun + lease
        WHERE id = wanted AND state = 'registering' AND lease_expires_at IS NULL;
    END CASE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    CASE kind
    WHEN 'local_run' THEN
        SELECT jsonb_build_object(
            'row', to_jsonb(run), 'tenant', to_jsonb(tenant), 'dataset', to_jsonb(dataset),
            'dataset__tenant', to_jsonb(tenant), 'federated_round', to_jsonb(round),
            'federated_round__federation', to_jsonb(federation),
            'federated_round__federation__base_model', to_jsonb(base_model),
            'federated_round__parent_version', to_jsonb(parent),
            'parent_score', (
                SELECT jsonb_build_object('accuracy', accuracy, 'loss', loss, 'n_rows', n_rows)
                FROM federation_evaluation WHERE tenant_id = run.tenant_id AND federation_id = round.federation_id
                    AND version_id = parent.id AND dataset_id = run.dataset_id AND state = 'completed'
            )
        ), parent.broadcast_size_bytes INTO claimed, fetched
        FROM federation_localrun run
            JOIN tenants_tenant tenant ON tenant.id = run.tenant_id
            JOIN tenants_dataset dataset ON dataset.id = run.dataset_id
            JOIN federation_federatedround round ON round.id = run.federated_round_id
            JOIN federation_federation federation ON federation.id = round.federation_id
            JOIN federation_basemodel base_model ON base_model.id = federation.base_model_id
            JOIN federation_prefixversion parent ON parent.id = round.parent_version_id
        WHERE run.id = wanted;
        INSERT INTO federation_roundevent (federated_round_id, tenant_id, kind, message, data)
        SELECT federated_round_id, tenant_id, 'local_run.running', format('Attempt %s began.', attempt),
            jsonb_build_object('from', 'queued', 'local_run', 'run_' || tenants_encode_id(id), 'attempt', attempt)
        FROM federation_localrun WHERE id = wanted;
    WHEN 'evaluation' THEN
        SELECT jsonb_build_object(
            'row', to_jsonb(evaluation), 'dataset', to_jsonb(dataset), 'dataset__tenant', to_jsonb(tenant),
            'federation', to_jsonb(federation), 'federation__base_model', to_jsonb(base_model),
            'version', to_jsonb(version)
        ), version.size_bytes INTO claimed, fetched
        FROM federation_evaluation evaluation
            JOIN tenants_dataset dataset ON dataset.id = evaluation.dataset_id
            JOIN tenants_tenant tenant ON tenant.id = dataset.tenant_id
            JOIN federation_federation federation ON federation.id = evaluation.federation_id
            JOIN federation_basemodel base_model ON base_model.id = federation.base_model_id
            LEFT JOIN federation_prefixversion version ON version.id = evaluation.version_id
        WHERE evaluation.id = wanted;
    WHEN 'personal_prefix' THEN
        SELECT jsonb_build_object(
            'row', to_jsonb(grown), 'tenant', to_jsonb(tenant), 'dataset', to_jsonb(dataset),
            'dataset__tenant', to_jsonb(tenant), 'federation', to_jsonb(federation),
            'federation__base_model', to_jsonb(base_model), 'version', to_jsonb(version)
        ), version.size_bytes INTO claimed, fetched
        FROM federation_personalprefix grown
            JOIN tenants_tenant tenant ON tenant.id = grown.tenant_id
            JOIN tenants_dataset dataset ON dataset.id = grown.dataset_id
            JOIN federation_federation federation ON federation.id = grown.federation_id
            JOIN federation_basemodel base_model ON base_model.id = federation.base_model_id
            JOIN federation_prefixversion version ON version.id = grown.version_id
        WHERE grown.id = wanted;
    WHEN 'dataset' THEN
        SELECT jsonb_build_object('row', to_jsonb(dataset), 'tenant', to_jsonb(tenant)) INTO claimed
        FROM tenants_dataset dataset JOIN tenants_tenant tenant ON tenant.id = dataset.tenant_id
        WHERE dataset.id = wanted;
    WHEN 'federation' THEN
        SELECT jsonb_build_object('row', to_jsonb(federation), 'base_model', to_jsonb(base_model)) INTO claimed
        FROM federation_federation federation
            JOIN federation_basemodel base_model ON base_model.id = federation.base_model_id
        WHERE federation.id = wanted;
    WHEN 'base_model' THEN
        SELECT jsonb_build_object('row', to_jsonb(base_model)) INTO claimed
        FROM federation_basemodel base_model WHERE id = wanted;
    END CASE;
    IF fetched > 0 THEN
        PERFORM tenants_charge((claimed #>> '{row,tenant_id}')::uuid, 0, interval '0', 0, fetched);
    END IF;
    RETURN claimed || jsonb_build_object('kind', kind);
END $$
"""

# The upsert takes the clock's lock, also where a table was emptied: claims happen one at a time. How long a start takes
# to follow another is a running mean that the last ten make nine tenths of; a longer pause than ten minutes tells
# nothing of the workers, and the mean begins anew.
_CLAIM_NEXT = """
CREATE FUNCTION federation_claim_next(worker text, lease interval) RETURNS jsonb
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    place record;
    claimed jsonb;
BEGIN
    INSERT INTO federation_claimclock (id, tenants, federations) VALUES (1, 0, 0) ON CONFLICT (id) DO UPDATE SET id = 1;
    FOR place IN
        SELECT * FROM federation_waiting ORDER BY class DESC, federation_tag, tenant_tag, created_at, id
    LOOP
        CONTINUE WHEN NOT federation_may_begin(place.kind, place.tenant);
        IF claimed IS NOT NULL THEN
            RETURN claimed || '{"waits_more": true}';
        END IF;
        claimed := federation_claim(place.kind, place.id, worker, lease);
        CONTINUE WHEN claimed IS NULL;  -- it was canceled in this very moment
        INSERT INTO federation_claimshare (id, finish_tag) VALUES
            (place.tenant, place.tenant_tag + 1.0 / place.tenant_weight),
            (place.federation, place.federation_tag + 1.0 / place.federation_weight)
        ON CONFLICT (id) DO UPDATE SET finish_tag = excluded.finish_tag;
        UPDATE federation_claimclock SET tenants = place.tenant_tag, federations = place.federation_tag,
            seconds_per_start = CASE WHEN last_start_at > clock_timestamp() - interval '10 minutes' THEN
                0.8 * coalesce(seconds_per_start, extract(epoch FROM clock_timestamp() - last_start_at))
                + 0.2 * extract(epoch FROM clock_timestamp() - last_start_at)
            END,
            last_start_at = clock_timestamp()
        WHERE id = 1;
    END LOOP;
    RETURN claimed || '{"waits_more": false}';
END $$
"""

# Both of two that look after they have ended may find that nothing is left. The round's row decides which of them
# tells: the second one waits for the first one's commit, and finds it told. No run of a round begins anew once none
# waits or runs, so that one message is enough; what becomes of it, the reconciler sees to.
_LOOK_AFTER_RUN = """
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

_LOOK_AFTER_SCORE = """
CREATE FUNCTION federation_look_after_score(version uuid) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
BEGIN
    RETURN QUERY SELECT id FROM federation_federatedround round
    WHERE state = 'evaluating' AND version IN (candidate_version_id, incumbent_version_id) AND NOT EXISTS (
        SELECT FROM federation_evaluation
        WHERE version_id IN (round.candidate_version_id, round.incumbent_version_id) AND finished_at IS NULL
            AND dataset_id IN (SELECT dataset_id FROM federation_localrun WHERE federated_round_id = round.id)
    );
END $$
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("federation", "0004_event_numbers"), ("tenants", "0006_functions")]
    operations: ClassVar = [
        migrations.RunSQL(_WAITING, "DROP VIEW federation_waiting"),
        migrations.RunSQL(_MAY_BEGIN, "DROP FUNCTION federation_may_begin(text, uuid)"),
        migrations.RunSQL(_CLAIM, "DROP FUNCTION federation_claim(text, uuid, text, interval)"),
        migrations.RunSQL(_CLAIM_NEXT, "DROP FUNCTION federation_claim_next(text, interval)"),
        migrations.RunSQL(_LOOK_AFTER_RUN, "DROP FUNCTION federation_look_after_run(uuid, uuid)"),
        migrations.RunSQL(_LOOK_AFTER_SCORE, "DROP FUNCTION federation_look_after_score(uuid)"),
    ]
