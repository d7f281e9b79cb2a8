-- What drizzle's schema cannot say: partitions, append-only tables, storage parameters.

-- Append-only: an UPDATE, DELETE or TRUNCATE fails, whoever sends it. Retention drops whole partitions, which is no
-- DELETE and fires no trigger.
CREATE FUNCTION ringback.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'table % is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END $$;
--> statement-breakpoint
-- Row triggers on a partitioned table are cloned to each of its partitions, so that a statement that names a partition
-- is refused too.
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ringback.delivery_attempts
  FOR EACH ROW EXECUTE FUNCTION ringback.refuse_change();
--> statement-breakpoint
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ringback.events
  FOR EACH ROW EXECUTE FUNCTION ringback.refuse_change();
--> statement-breakpoint
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ringback.job_runs
  FOR EACH ROW EXECUTE FUNCTION ringback.refuse_change();
--> statement-breakpoint
-- TRUNCATE fires statement triggers of the named table only: the parents have theirs here, each partition gets its own.
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ringback.delivery_attempts
  FOR EACH STATEMENT EXECUTE FUNCTION ringback.refuse_change();
--> statement-breakpoint
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ringback.job_runs
  FOR EACH STATEMENT EXECUTE FUNCTION ringback.refuse_change();
--> statement-breakpoint
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ringback.events
  FOR EACH STATEMENT EXECUTE FUNCTION ringback.refuse_change();
--> statement-breakpoint
-- A default partition for each, so that a wrong clock or a keeper that never ran cannot make an insert fail.
CREATE TABLE ringback.job_runs_default PARTITION OF ringback.job_runs DEFAULT;
--> statement-breakpoint
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ringback.job_runs_default
  FOR EACH STATEMENT EXECUTE FUNCTION ringback.refuse_change();
--> statement-breakpoint
CREATE TABLE ringback.events_default PARTITION OF ringback.events DEFAULT;
--> statement-breakpoint
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ringback.events_default
  FOR EACH STATEMENT EXECUTE FUNCTION ringback.refuse_change();
--> statement-breakpoint
CREATE TABLE ringback.delivery_attempts_default PARTITION OF ringback.delivery_attempts DEFAULT;
--> statement-breakpoint
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ringback.delivery_attempts_default
  FOR EACH STATEMENT EXECUTE FUNCTION ringback.refuse_change();
--> statement-breakpoint
-- Makes the weekly partitions (Monday to Monday, UTC) from the week of "since" to the week of "until" that are not there
-- yet; returns a row for each one made or failed. A partition whose rows already sit in the default one cannot be made:
-- its rows stay there, readable as ever, and the row returned says why.
CREATE FUNCTION ringback.create_partitions(since timestamptz, until timestamptz)
RETURNS TABLE (partition_name text, failure text) LANGUAGE plpgsql AS $$
DECLARE
  parent text;
  week timestamptz;
BEGIN
  -- Keepers of several processes may run at once.
  PERFORM pg_advisory_xact_lock(hashtextextended('ringback.create_partitions', 0));
  FOREACH parent IN ARRAY ARRAY['job_runs', 'events', 'delivery_attempts'] LOOP
    week := date_trunc('week', since, 'UTC');
    WHILE week <= until LOOP
      partition_name := format('%s_%s', parent, to_char(week AT TIME ZONE 'UTC', 'YYYYMMDD'));
      failure := NULL;
      IF to_regclass(format('ringback.%I', partition_name)) IS NULL THEN
        BEGIN
          EXECUTE format(
            'CREATE TABLE ringback.%I PARTITION OF ringback.%I FOR VALUES FROM (%L) TO (%L)',
            partition_name, parent, week, week + interval '7 days');
          EXECUTE format(
            'CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ringback.%I
               FOR EACH STATEMENT EXECUTE FUNCTION ringback.refuse_change()', partition_name);
        EXCEPTION WHEN OTHERS THEN
          failure := SQLERRM;
        END;
        RETURN NEXT;
      END IF;
      week := week + interval '7 days';
    END LOOP;
  END LOOP;
END $$;
--> statement-breakpoint
SELECT ringback.create_partitions(now() - interval '1 day', now() + interval '28 days');
--> statement-breakpoint
-- Room on each page for the updates that a row gets in its life, so that they stay heap-only.
ALTER TABLE ringback.jobs SET (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
--> statement-breakpoint
ALTER TABLE ringback.deliveries SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
