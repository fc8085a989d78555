"""Migration operations of the tenant wall: every table that holds a tenant's rows gets a forced policy."""

from dataclasses import dataclass

from django.db.migrations import RunSQL

from tenants.scoping import APPLICATION_ROLE, PLATFORM_ROLE, SETTING

OWNER_ROLE = "prelude_owner"

# In a sub-select PostgreSQL asks once a statement instead of once a row.
_TENANT = f"(SELECT nullif(current_setting('{SETTING}', true), '')::uuid)"


@dataclass(frozen=True)
class Policy:
    """One row-level policy: the rows that `role` meets, and those that it may write (none: it only reads)."""

    role: str
    using: str
    check: str | None

    @property
    def command(self) -> str:
        """What it is for, in SQL's word."""
        return "SELECT" if self.check is None else "ALL"

    @property
    def rule(self) -> str:
        """The part of CREATE POLICY that follows the table's name."""
        check = "" if self.check is None else f" WITH CHECK ({self.check})"
        return f"FOR {self.command} TO {self.role} USING ({self.using}){check}"


def policies(
    *, column: str = "tenant_id", shared_rows: bool = False, owner_rows: bool = False
) -> dict[str, Policy]:
    """The policies of a walled table, by name: what migrations make, and what the system check looks for."""
    own = f"{column} = {_TENANT}"
    found = {
        "tenant_rows": Policy(APPLICATION_ROLE, own, own),
        "platform_rows": Policy(PLATFORM_ROLE, "true", "true"),
    }
    if shared_rows:
        shared = f"{column} IS NULL AND {_TENANT} IS NOT NULL"
        found["shared_rows"] = Policy(APPLICATION_ROLE, shared, None)
    if owner_rows:
        found["owner_rows"] = Policy(OWNER_ROLE, "true", "true")
    return found


def tenant_wall(
    table: str, *, column: str = "tenant_id", shared_rows: bool = False, owner_rows: bool = False
) -> RunSQL:
    """Row-level security on `table`, failing closed: the application's role meets only rows of the tenant in force.

    `shared_rows` also lets a tenant read (never write) rows whose column is null, such as a round's own events.
    `owner_rows` lets the owner meet rows, for a trigger that runs as the owner; no process of ours logs in as it.
    """
    made = policies(column=column, shared_rows=shared_rows, owner_rows=owner_rows)
    return RunSQL(
        sql=[
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
            *(f"CREATE POLICY {name} ON {table} {policy.rule}" for name, policy in made.items()),
        ],
        reverse_sql=[
            *(f"DROP POLICY {name} ON {table}" for name in made),
            f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY",
            f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY",
        ],
    )


def key_within_tenant(table: str) -> RunSQL:
    """Let `same_tenant` point at `table`: PostgreSQL wants the pair of tenant and id to be a key of its own."""
    name = f"{table}_key_within_tenant"
    return RunSQL(
        sql=f"ALTER TABLE {table} ADD CONSTRAINT {name} UNIQUE (tenant_id, id)",
        reverse_sql=f"ALTER TABLE {table} DROP CONSTRAINT {name}",
    )


def same_tenant(table: str, column: str, *, target: str) -> RunSQL:
    """A foreign key from `table` can only name rows of `target` that the same tenant owns, whoever writes it.

    It stands beside Django's own key, which alone would let a row name any tenant's, and would tell by its refusal
    whether that row exists: PostgreSQL checks foreign keys past row-level security.
    """
    name = f"{table}_{column}_same_tenant"
    return RunSQL(
        sql=f"ALTER TABLE {table} ADD CONSTRAINT {name}"
        f" FOREIGN KEY (tenant_id, {column}) REFERENCES {target} (tenant_id, id)",
        reverse_sql=f"ALTER TABLE {table} DROP CONSTRAINT {name}",
    )


def append_only(table: str) -> RunSQL:
    """The application's roles may add rows to `table` and read them, never change or remove them."""
    roles = f"{APPLICATION_ROLE}, {PLATFORM_ROLE}"
    return RunSQL(
        sql=f"REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM {roles}",
        reverse_sql=f"GRANT UPDATE, DELETE ON {table} TO {roles}",
    )
