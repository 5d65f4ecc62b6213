-- To be run in one transaction, so that nothing is installed behind a refusal: psql -1 -v ON_ERROR_STOP=1.
--
-- The revocation log. Made on first use by a role that may create a schema, or by an operator; then the role needs USAGE on the
-- schema, and SELECT, INSERT, UPDATE and DELETE on both tables.
SELECT pg_advisory_xact_lock(7093849164872609138);
-- Whoever owns the schema, or a function or a table in it, may replace what is made here, or hang a trigger on it: so that has to
-- be a role that the one at work is, or belongs to, or the owner of the database, or a superuser.
DO $$
DECLARE
  stranger text;
BEGIN
  IF to_regnamespace('broker') IS NULL THEN CREATE SCHEMA broker; END IF;
  SELECT role.rolname INTO stranger
  FROM (SELECT nspowner AS owner FROM pg_namespace WHERE nspname = 'broker'
        UNION SELECT proowner FROM pg_proc WHERE pronamespace = to_regnamespace('broker')
        UNION SELECT relowner FROM pg_class WHERE relnamespace = to_regnamespace('broker')) AS there
  JOIN pg_roles role ON role.oid = there.owner
  JOIN pg_roles own ON own.rolname = current_user
  JOIN pg_database base ON base.datname = current_database()
  WHERE NOT (role.rolsuper OR role.oid IN (own.oid, base.datdba) OR role.rolname = 'pg_database_owner'
    OR (NOT own.rolsuper AND pg_has_role(role.oid, 'USAGE')))
  LIMIT 1;
  IF stranger IS NOT NULL THEN
    RAISE EXCEPTION 'the schema broker, or a function or a table in it, belongs to the role %: run this as that role if it is yours, or else ALTER SCHEMA broker RENAME TO another name before it', quote_ident(stranger)
      USING ERRCODE = 'insufficient_privilege';
  END IF;
END $$;
-- One row for each log: the number of its newest record, its mark, and the mark of the one before that.
CREATE TABLE IF NOT EXISTS broker.log (
  name text PRIMARY KEY,
  epoch uuid NOT NULL DEFAULT gen_random_uuid(),
  last int8 NOT NULL DEFAULT 0,
  mark int8 NOT NULL DEFAULT 0,
  before int8 NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS broker.record (
  log text NOT NULL REFERENCES broker.log ON DELETE CASCADE,
  number int8 NOT NULL,
  mark int8 NOT NULL,
  before int8 NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  record bytea NOT NULL,
  PRIMARY KEY (log, number)
);
