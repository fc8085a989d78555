"""Finding the key of a request: a function, whose plan each connection of the database keeps."""

from typing import ClassVar

from django.db import migrations

# A statement would be planned anew for each request, which takes several times as long as running it. The function
# runs as whoever calls it, so that the wall binds it: outside of the platform's scope it finds nothing.
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
        WHERE k.id = asked AND k.revoked_at IS NULL
            AND (k.expires_at IS NULL OR k.expires_at > statement_timestamp());
END $$;
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("tenants", "0011_stopping_until")]
    operations: ClassVar = [migrations.RunSQL(_OPEN_API_KEY, "DROP FUNCTION tenants_open_api_key(uuid)")]
