-- The database roles of Prelude and what each may do. Runs on PostgreSQL 15 to 18, any number of times.
--
--   createdb prelude
--   psql --set ON_ERROR_STOP=1 --single-transaction --dbname prelude --file deploy/postgres/roles.sql
--   psql --dbname prelude --command '\password prelude_owner'
--   psql --dbname prelude --command '\password prelude_app'
--
-- Run it as a superuser, connected to Prelude's own database, before the first migration. No password is in this file.
--
--   prelude_owner     logs in to migrate, and owns the database and every table
--   prelude_app       logs in for the web, coordinator, training and ticker processes; row-level security binds it
--   prelude_platform  nobody logs in as it: prelude_app enters it with SET LOCAL ROLE for work across tenants

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'prelude_owner') THEN
        CREATE ROLE prelude_owner LOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'prelude_app') THEN
        CREATE ROLE prelude_app LOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'prelude_platform') THEN
        CREATE ROLE prelude_platform NOLOGIN;
    END IF;
END
$$;

-- Said again for roles that existed: each of these attributes would open the walls between tenants.
ALTER ROLE prelude_owner LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOREPLICATION;
ALTER ROLE prelude_app LOGIN NOINHERIT NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION;
ALTER ROLE prelude_platform NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION;

-- Of a client that is silent within a transaction (its host lost power, or was paused) nobody would hear for two hours,
-- and all that time its locks would hold up rounds. (A file of a gigabyte may be on its way to storage meanwhile.)
ALTER ROLE prelude_app SET idle_in_transaction_session_timeout = '5min';
ALTER ROLE prelude_app SET tcp_keepalives_idle = '30s';
ALTER ROLE prelude_app SET tcp_keepalives_interval = '10s';
ALTER ROLE prelude_app SET tcp_keepalives_count = 3;

-- A statement that is refused (a name that is taken is enough) would be written to the server's log with all its values,
-- wrapped keys and addresses of people among them, and so would the values that a constraint found twice.
ALTER ROLE prelude_app SET log_min_error_statement = 'panic';
ALTER ROLE prelude_app SET log_error_verbosity = 'terse';

-- NOINHERIT comes first: from PostgreSQL 16 on, a membership takes the member's setting when it is granted.
GRANT prelude_platform TO prelude_app;

DO $$
BEGIN
    EXECUTE format('ALTER DATABASE %I OWNER TO prelude_owner', current_database());
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO prelude_app', current_database());
END
$$;

ALTER SCHEMA public OWNER TO prelude_owner;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO prelude_app, prelude_platform;

-- For the tables that the owner's migrations will make; a migration may take more away (append-only tables).
ALTER DEFAULT PRIVILEGES FOR ROLE prelude_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO prelude_app, prelude_platform;
ALTER DEFAULT PRIVILEGES FOR ROLE prelude_owner IN SCHEMA public
    GRANT USAGE, SELECT ON SEQUENCES TO prelude_app, prelude_platform;
