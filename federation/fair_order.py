"""The order of waiting work, in SQL: by class, then fair between federations, then fair between a federation's tenants.

Start-time fair queueing (Goyal, Vin and Cheng, "Start-time Fair Queuing", SIGCOMM 1996). Each tenant and each
federation is a flow with a finish tag. The start tag of its next piece of work is the later of that tag and the flows'
clock; when work begins, the clock is set to its start tag and the flow's finish tag to start tag + 1/weight. A flow
that was idle gets no credit for it, and one with much work waits for all that have had less. With equal weights,
and within one federation and class, at most one piece of another tenant's work begins between a tenant's first
request and its first start, however much the other has queued; with work of F federations waiting, at most F.

A tenant with as many attempts under way as it may have at once keeps its place in the order and is passed over; so are
local runs and personal prefixes of a tenant that has spent its device seconds of the month.

All statements run in the platform's scope: the order is over all tenants.
"""

from typing import Final

# The flows of work that is no tenant's, and of work that is no federation's.
_NO_TENANT: Final = "00000000-0000-0000-0000-000000000000"
_NO_FEDERATION: Final = "00000000-0000-0000-0000-000000000001"

WAITING: Final = f"""
    SELECT kind, work.id, work.created_at,
        coalesce(work.tenant_id, '{_NO_TENANT}') AS tenant,
        coalesce(federation_id, '{_NO_FEDERATION}') AS federation,
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
"""

# Asked of a row with its `kind` and `tenant`.
MAY_BEGIN: Final = """
    NOT EXISTS (
        SELECT FROM tenants_tenantlimits limits WHERE limits.tenant_id = tenant AND (
            limits.concurrent_runs IS NOT NULL AND limits.concurrent_runs <= (
                (SELECT count(*) FROM federation_localrun
                    WHERE tenant_id = limits.tenant_id AND state = 'running')
                + (SELECT count(*) FROM federation_evaluation
                    WHERE tenant_id = limits.tenant_id AND state = 'running')
                + (SELECT count(*) FROM federation_personalprefix
                    WHERE tenant_id = limits.tenant_id AND state = 'running')
                + (SELECT count(*) FROM tenants_dataset WHERE tenant_id = limits.tenant_id
                    AND state = 'validating' AND lease_expires_at IS NOT NULL)
            )
            OR kind IN ('local_run', 'personal_prefix') AND limits.device_seconds_per_month <= (
                SELECT coalesce(sum(device_seconds), 0) FROM tenants_usageday
                WHERE tenant_id = limits.tenant_id
                    AND day >= date_trunc('month', now() AT TIME ZONE 'UTC')::date
            )
        )
    )
"""

TAGGED: Final = f"""
    SELECT waiting.*,
        greatest(coalesce(among_tenants.finish_tag, 0), clock.tenants) AS tenant_tag,
        greatest(coalesce(among_federations.finish_tag, 0), clock.federations) AS federation_tag
    FROM ({WAITING}) waiting
    CROSS JOIN (SELECT coalesce(max(tenants), 0) AS tenants, coalesce(max(federations), 0) AS federations
                FROM federation_claimclock) clock
    LEFT JOIN federation_claimshare among_tenants ON among_tenants.id = tenant
    LEFT JOIN federation_claimshare among_federations ON among_federations.id = federation
"""

_ORDER: Final = "class DESC, federation_tag, tenant_tag, created_at, id"

NEXT: Final = f"""
    SELECT kind, id, tenant, federation, tenant_tag, federation_tag, tenant_weight, federation_weight FROM (
        -- OFFSET keeps the condition outside: limits are asked of the first rows alone, until one may begin.
        SELECT * FROM ({TAGGED}) tagged ORDER BY {_ORDER} OFFSET 0
    ) ordered WHERE {MAY_BEGIN}
    -- Said again where it binds: a join with the limits may lose the order of what it reads.
    ORDER BY {_ORDER} LIMIT 2
"""

# Each further piece of a flow's work is due one turn later.
PLACE: Final = f"""
    WITH foreseen AS (
        SELECT id, class, created_at,
            federation_tag + (row_number() OVER (PARTITION BY federation ORDER BY created_at, id) - 1)
                / federation_weight::float AS federation_tag,
            tenant_tag + (row_number() OVER (PARTITION BY tenant ORDER BY created_at, id) - 1)
                / tenant_weight::float AS tenant_tag
        FROM ({TAGGED}) tagged WHERE {MAY_BEGIN}
    ), placed AS (
        SELECT id, row_number() OVER (ORDER BY {_ORDER}) AS place
        FROM foreseen
    )
    SELECT place FROM placed WHERE id = %s
"""

# The upsert takes the row's lock, also where a table was emptied: claims happen one at a time.
LOCK: Final = """
    INSERT INTO federation_claimclock (id, tenants, federations) VALUES (1, 0, 0)
    ON CONFLICT (id) DO UPDATE SET id = 1
"""

# How long a start takes to follow another, as a running mean that the last ten make nine tenths of; a longer pause than
# this tells nothing of the workers, and the mean begins anew.
_IS_BUSY: Final = "last_start_at > clock_timestamp() - interval '10 minutes'"
_GAP: Final = "extract(epoch FROM clock_timestamp() - last_start_at)"

ADVANCE: Final = f"""
    WITH served AS (
        INSERT INTO federation_claimshare (id, finish_tag) VALUES
            (%(tenant)s, %(tenant_tag)s + 1.0 / %(tenant_weight)s),
            (%(federation)s, %(federation_tag)s + 1.0 / %(federation_weight)s)
        ON CONFLICT (id) DO UPDATE SET finish_tag = excluded.finish_tag
    )
    UPDATE federation_claimclock SET tenants = %(tenant_tag)s, federations = %(federation_tag)s,
        seconds_per_start = CASE WHEN {_IS_BUSY} THEN 0.8 * coalesce(seconds_per_start, {_GAP}) + 0.2 * {_GAP} END,
        last_start_at = clock_timestamp()
"""

SECONDS_PER_START: Final = f"SELECT seconds_per_start FROM federation_claimclock WHERE {_IS_BUSY}"
