"""Functions that others call: an amount is added to a tenant's day, and an id gets its public form."""

from typing import ClassVar

from django.db import migrations

# As a function its plan is kept by the server's connection.
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
    dependencies: ClassVar = [("tenants", "0012_open_api_key")]
    operations: ClassVar = [
        migrations.RunSQL(_CHARGE, "DROP FUNCTION tenants_charge(uuid, bigint, interval, bigint, bigint)"),
        migrations.RunSQL(_ENCODE_ID, "DROP FUNCTION tenants_encode_id(uuid)"),
    ]
