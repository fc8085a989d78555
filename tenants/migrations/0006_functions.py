"""What is asked for with every request, and what other functions call: the server's connections keep their plans."""

from typing import ClassVar

from django.db import migrations

# A statement would be planned anew for each request, which takes several times as long as running it. The function
# runs as whoever calls it, so that the wall binds it: outside of the platform's scope it finds nothing. Whoever may not
# sign in comes in by no key either.
_OPEN_API_KEY = """
CREATE FUNCTION tenants_open_api_key(asked uuid) RETURNS TABLE (
    id uuid, tenant_id uuid, name varchar, digest bytea, membership_id uuid, rights varchar[],
    allowed_networks varchar[], expires_at timestamptz, created_at timestamptz, rotated_at timestamptz,
    revoked_at timestamptz, last_used_at timestamptz,
    tenant_name varchar, tenant_slug varchar, tenant_state varchar, tenant_wrapped_data_key bytea,
    tenant_created_at timestamptz,
    requests_per_minute integer, user_id integer, role varchar
) LANGUAGE plpgsql STABLE SECURITY INVOKER AS $$
BEGIN
    RETURN QUERY
        SELECT k.id, k.tenant_id, k.name, k.digest, k.membership_id, k.rights, k.allowed_networks, k.expires_at,
            k.created_at, k.rotated_at, k.revoked_at, k.last_used_at,
            t.name, t.slug, t.state, t.wrapped_data_key, t.created_at, l.requests_per_minute, m.user_id, m.role
        FROM tenants_apikey k
            LEFT JOIN tenants_tenant t ON t.id = k.tenant_id
            LEFT JOIN tenants_tenantlimits l ON l.tenant_id = k.tenant_id
            LEFT JOIN tenants_membership m ON m.id = k.membership_id
            LEFT JOIN auth_user u ON u.id = m.user_id
        WHERE k.id = asked AND k.revoked_at IS NULL AND (k.membership_id IS NULL OR u.is_active)
            AND (k.expires_at IS NULL OR k.expires_at > statement_timestamp());
END $$;
"""

_CHARGE = """
CREATE FUNCTION tenants_charge(
    tenant uuid, requests bigint, device_time interval, received bigint, sent bigint
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tenants_usageday AS known (
        id, tenant_id, day, n_requests, device_seconds, received_bytes, sent_bytes
    ) VALUES (
        gen_random_uuid(), tenant, (now() AT TIME ZONE 'UTC')::date,
        requests, extract(epoch FROM device_time), received, sent
    ) ON CONFLICT (tenant_id, day) DO UPDATE SET
        n_requests = known.n_requests + excluded.n_requests,
        device_seconds = known.device_seconds + excluded.device_seconds,
        received_bytes = known.received_bytes + excluded.received_bytes,
        sent_bytes = known.sent_bytes + excluded.sent_bytes;
END $$
"""

# `tenants.ids.encode`: 26 characters of 5 bits, the first two of which are none of the id's.
_ENCODE_ID = """
CREATE FUNCTION tenants_encode_id(id uuid) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT string_agg(
        substr('0123456789abcdefghjkmnpqrstvwxyz', substring(bits FROM 5 * place + 1 FOR 5)::int + 1, 1),
        '' ORDER BY place
    )
    FROM (SELECT B'00' || ('x' || replace(id::text, '-', ''))::bit(128) AS bits) AS told, generate_series(0, 25) place
$$
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("tenants", "0005_shared_cache"), ("auth", "0001_initial")]
    operations: ClassVar = [
        migrations.RunSQL(_OPEN_API_KEY, "DROP FUNCTION tenants_open_api_key(uuid)"),
        migrations.RunSQL(_CHARGE, "DROP FUNCTION tenants_charge(uuid, bigint, interval, bigint, bigint)"),
        migrations.RunSQL(_ENCODE_ID, "DROP FUNCTION tenants_encode_id(uuid)"),
    ]
