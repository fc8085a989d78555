"""Migration operations of the tenant wall: every table that holds a tenant's rows gets a forced policy."""

from django.db.migrations import RunSQL

from tenants.scoping import APPLICATION_ROLE, PLATFORM_ROLE, SETTING

# In a sub-select PostgreSQL asks once a statement instead of once a row.
_TENANT = f"(SELECT nullif(current_setting('{SETTING}', true), '')::uuid)"


def tenant_wall(table: str, *, column: str = "tenant_id", shared_rows: bool = False) -> RunSQL:
    """Row-level security on `table`, failing closed: the application's role meets only rows of the tenant in force.

    `shared_rows` also lets a tenant read (never write) rows whose column is null, such as a round's own events.
    """
    own = f"{column} = {_TENANT}"
    policies = {
        "tenant_rows": f"FOR ALL TO {APPLICATION_ROLE} USING ({own}) WITH CHECK ({own})",
        "platform_rows": f"FOR ALL TO {PLATFORM_ROLE} USING (true) WITH CHECK (true)",
    }
    if shared_rows:
        shared = f"{column} IS NULL AND {_TENANT} IS NOT NULL"
        policies["shared_rows"] = f"FOR SELECT TO {APPLICATION_ROLE} USING ({shared})"
    return RunSQL(
        sql=[
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
            *(f"CREATE POLICY {name} ON {table} {rule}" for name, rule in policies.items()),
        ],
        reverse_sql=[
            *(f"DROP POLICY {name} ON {table}" for name in policies),
            f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY",
            f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY",
        ],
    )


def append_only(table: str) -> RunSQL:
    """The application's roles may add rows to `table` and read them, never change or remove them."""
    roles = f"{APPLICATION_ROLE}, {PLATFORM_ROLE}"
    return RunSQL(
        sql=f"REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM {roles}",
        reverse_sql=f"GRANT UPDATE, DELETE ON {table} TO {roles}",
    )
