-- The revocation log. Made on first use by a role that may create a schema, or by an operator; then the role needs USAGE on the
-- schema, and SELECT, INSERT, UPDATE and DELETE on both tables.
SELECT pg_advisory_xact_lock(7093849164872609138);
DO $$ BEGIN
  IF to_regnamespace('broker') IS NULL THEN CREATE SCHEMA broker; END IF;
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
