"""The audit record is append-only, and chained at the commit."""

from typing import ClassVar

from django.db import migrations

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
    dependencies: ClassVar = [("tenants", "0003_final_states")]
    operations: ClassVar = [
        migrations.RunSQL(sql=_SEAL, reverse_sql=_REVERSE),
        migrations.RunSQL(sql=_REFUSE, reverse_sql=migrations.RunSQL.noop),
        migrations.RunSQL(sql=_RIGHTS, reverse_sql="DROP INDEX audit_entry_number_unique"),
    ]
