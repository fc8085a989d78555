"""The audit record: walled, append-only, chained at the commit."""

from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q

import tenants.ids
from tenants.states import ActorKind
from tenants.wall import append_only, tenant_wall

_ENTRY = "tenants_auditentry"

# The chain has one head, whose lock all entries wait for: it must be the last lock of a transaction, so that no circle
# can close. A deferred trigger comes when the transaction commits, after every lock that a service took, but among the
# checks of foreign keys, which lock rows too. So it only touches its entry, and the deferred trigger of that, which
# PostgreSQL fires after all that waited until then, takes the head and seals the entry.
_SEAL = """
CREATE FUNCTION audit_seal() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    head record;
BEGIN
    IF TG_OP = 'INSERT' THEN
        UPDATE tenants_auditentry SET number = NULL WHERE id = NEW.id;
        RETURN NULL;
    END IF;
    UPDATE tenants_audithead
        SET n_entries = n_entries + 1,
            sha256 = encode(sha256(convert_to(sha256 || NEW.content_sha256, 'UTF8')), 'hex')
        RETURNING n_entries, sha256 INTO STRICT head;
    UPDATE tenants_auditentry SET number = head.n_entries, sha256 = head.sha256 WHERE id = NEW.id;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION audit_seal() FROM PUBLIC;
CREATE CONSTRAINT TRIGGER audit_entry_written AFTER INSERT ON tenants_auditentry
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_seal();
CREATE CONSTRAINT TRIGGER audit_entry_sealed AFTER UPDATE ON tenants_auditentry
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.number IS NULL) EXECUTE FUNCTION audit_seal();
"""

# Whoever is not bound by rights, such as the owner, is stopped here, unless the trigger is disabled; that shows in
# the chain.
_REFUSE = """
CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit record is append-only: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_entry_unplaced BEFORE INSERT ON tenants_auditentry
    FOR EACH ROW WHEN (NEW.number IS NOT NULL OR NEW.sha256 <> '') EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_entry_unchanged BEFORE UPDATE ON tenants_auditentry
    FOR EACH ROW WHEN (
        OLD.number IS NOT NULL
        OR to_jsonb(NEW) - 'number' - 'sha256' IS DISTINCT FROM to_jsonb(OLD) - 'number' - 'sha256'
    ) EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_entry_kept BEFORE DELETE ON tenants_auditentry FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_entries_kept BEFORE TRUNCATE ON tenants_auditentry EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_head_kept BEFORE DELETE OR TRUNCATE ON tenants_audithead EXECUTE FUNCTION audit_refuse();
"""

_REVERSE = """
DROP TRIGGER audit_entry_written ON tenants_auditentry;
DROP TRIGGER audit_entry_sealed ON tenants_auditentry;
DROP TRIGGER audit_entry_unplaced ON tenants_auditentry;
DROP TRIGGER audit_entry_unchanged ON tenants_auditentry;
DROP TRIGGER audit_entry_kept ON tenants_auditentry;
DROP TRIGGER audit_entries_kept ON tenants_auditentry;
DROP TRIGGER audit_head_kept ON tenants_audithead;
DROP FUNCTION audit_seal();
DROP FUNCTION audit_refuse();
"""

# Numbers are unique over all tenants, which the model does not declare: no application's insert can set one, so that no
# refusal tells anything of other tenants' rows.
_RIGHTS = """
CREATE UNIQUE INDEX audit_entry_number_unique ON tenants_auditentry (number);
REVOKE ALL ON tenants_audithead FROM prelude_app, prelude_platform;
GRANT SELECT ON tenants_audithead TO prelude_platform;
INSERT INTO tenants_audithead (id, n_entries, sha256) VALUES (1, 0, '');
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("tenants", "0005_idempotency")]
    operations: ClassVar = [
        migrations.CreateModel(
            name="AuditHead",
            fields=[
                ("id", models.SmallIntegerField(primary_key=True, serialize=False)),
                ("n_entries", models.BigIntegerField()),
                ("sha256", models.CharField(max_length=64)),
            ],
            options={
                "verbose_name": "audit head",
                "constraints": [models.CheckConstraint(condition=Q(("id", 1)), name="audit_head_one_row")],
            },
        ),
        migrations.CreateModel(
            name="AuditEntry",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("happened_at", models.DateTimeField()),
                ("actor_kind", models.CharField(choices=ActorKind.choices, max_length=16)),
                ("actor_id", models.CharField(max_length=64)),
                ("actor_name", models.CharField(max_length=200)),
                (
                    "credential",
                    models.CharField(help_text="The key, or the session's fingerprint.", max_length=64),
                ),
                ("address", models.CharField(help_text="Of the peer that this process saw.", max_length=45)),
                ("request_id", models.CharField(max_length=64)),
                ("action", models.CharField(max_length=64)),
                ("object_kind", models.CharField(max_length=64)),
                ("object_id", models.CharField(max_length=64)),
                ("before", models.JSONField(default=dict)),
                ("after", models.JSONField(default=dict)),
                ("content_sha256", models.CharField(max_length=64)),
                (
                    "number",
                    models.BigIntegerField(
                        help_text="Its place in the chain, from 1; set at the commit.", null=True
                    ),
                ),
                ("sha256", models.CharField(default="", max_length=64)),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "verbose_name": "audit entry",
                "verbose_name_plural": "audit entries",
                "indexes": [
                    models.Index(fields=["tenant", "id"], name="audit_entry_tenant"),
                    models.Index(fields=["object_id", "id"], name="audit_entry_object"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=Q(("actor_kind__in", ActorKind.values)), name="audit_entry_actor_kind_known"
                    ),
                    models.CheckConstraint(
                        condition=Q(("action__regex", "^[a-z_]+\\.[a-z_]+$")),
                        name="audit_entry_action_two_words",
                    ),
                ],
            },
        ),
        tenant_wall(_ENTRY, owner_rows=True),
        append_only(_ENTRY),
        migrations.RunSQL(sql=_SEAL, reverse_sql=_REVERSE),
        migrations.RunSQL(sql=_REFUSE, reverse_sql=migrations.RunSQL.noop),
        migrations.RunSQL(sql=_RIGHTS, reverse_sql="DROP INDEX audit_entry_number_unique"),
    ]
