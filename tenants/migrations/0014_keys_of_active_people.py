"""A member's own key opens nothing while the member's account is not active."""

from typing import ClassVar

from django.db import migrations

# As before (0012), but for the account behind the membership: whoever may not sign in comes in by no key either.
_OPEN_API_KEY = """
CREATE OR REPLACE FUNCTION tenants_open_api_key(asked uuid) RETURNS TABLE (
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


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("tenants", "0013_charge"),
        ("auth", "0001_initial"),
    ]
    operations: ClassVar = [migrations.RunSQL(_OPEN_API_KEY, migrations.RunSQL.noop)]
