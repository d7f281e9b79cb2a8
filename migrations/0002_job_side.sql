CREATE TABLE "ringback"."job_logs" (
	"account_id" text COLLATE "C" NOT NULL,
	"job_id" text COLLATE "C" NOT NULL,
	"position" bigint NOT NULL,
	"run_id" text COLLATE "C" NOT NULL,
	"level" text NOT NULL,
	"message" text NOT NULL,
	"fields" json,
	"created_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "job_logs_pkey" PRIMARY KEY("account_id","job_id","position","created_at"),
	CONSTRAINT "job_logs_level" CHECK (level IN ('debug', 'info', 'warn', 'error'))
) PARTITION BY RANGE ("created_at");
--> statement-breakpoint
CREATE TABLE "ringback"."job_tombstones" (
	"account_id" text COLLATE "C" NOT NULL,
	"id" text COLLATE "C" NOT NULL,
	"type" text NOT NULL,
	"status" text NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	"finished_at" timestamp (3) with time zone NOT NULL,
	"expired_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "job_tombstones_pkey" PRIMARY KEY("account_id","id"),
	CONSTRAINT "job_tombstones_status" CHECK (status IN ('succeeded', 'failed', 'canceled', 'expired'))
);
--> statement-breakpoint
CREATE TABLE "ringback"."result_chunks" (
	"account_id" text COLLATE "C" NOT NULL,
	"run_id" text COLLATE "C" NOT NULL,
	"number" integer NOT NULL,
	"bytes" "bytea" NOT NULL,
	CONSTRAINT "result_chunks_pkey" PRIMARY KEY("account_id","run_id","number"),
	CONSTRAINT "result_chunks_number" CHECK (number >= 0)
);
--> statement-breakpoint
CREATE TABLE "ringback"."run_queue" (
	"account_id" text COLLATE "C" NOT NULL,
	"job_id" text COLLATE "C" NOT NULL,
	"type" text NOT NULL,
	"pool" text NOT NULL,
	"state" text NOT NULL,
	"priority" smallint NOT NULL,
	"timeout_ms" integer NOT NULL,
	"schedule_id" text COLLATE "C",
	"due_at" timestamp (3) with time zone NOT NULL,
	"expires_at" timestamp (3) with time zone,
	"run_id" text COLLATE "C",
	"worker_id" text,
	"held_by" text,
	"lease_expires_at" timestamp (3) with time zone,
	"deadline_at" timestamp (3) with time zone,
	"cancel_requested_at" timestamp (3) with time zone,
	"completion_hash" "bytea",
	"upload_id" text,
	CONSTRAINT "run_queue_pkey" PRIMARY KEY("account_id","job_id"),
	CONSTRAINT "run_queue_state" CHECK (state IN ('delayed', 'ready', 'leased')),
	CONSTRAINT "run_queue_held_by" CHECK (held_by IN ('runner', 'worker', 'backend')),
	CONSTRAINT "run_queue_lease" CHECK (num_nulls(run_id, worker_id, held_by, lease_expires_at, deadline_at) = CASE WHEN state = 'leased' THEN 0 ELSE 5 END),
	CONSTRAINT "run_queue_completion_held" CHECK (completion_hash IS NULL OR state = 'leased'),
	CONSTRAINT "run_queue_upload_held" CHECK (upload_id IS NULL OR state = 'leased')
);
--> statement-breakpoint
CREATE TABLE "ringback"."idempotency_keys" (
	"account_id" text COLLATE "C" NOT NULL,
	"key" text NOT NULL,
	"fingerprint" "bytea" NOT NULL,
	"job_id" text COLLATE "C" NOT NULL,
	"response" "bytea" NOT NULL,
	"response_key_id" text,
	"created_at" timestamp (3) with time zone NOT NULL,
	"expires_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "idempotency_keys_pkey" PRIMARY KEY("account_id","key"),
	CONSTRAINT "idempotency_keys_length" CHECK (octet_length(key) BETWEEN 1 AND 255),
	CONSTRAINT "idempotency_keys_fingerprint" CHECK (octet_length(fingerprint) = 32)
);
--> statement-breakpoint
CREATE TABLE "ringback"."job_schedules" (
	"account_id" text COLLATE "C" NOT NULL,
	"id" text COLLATE "C" NOT NULL,
	"name" text NOT NULL,
	"cron" text NOT NULL,
	"time_zone" text NOT NULL,
	"overlap" text NOT NULL,
	"misfire" text NOT NULL,
	"type" text NOT NULL,
	"input" json NOT NULL,
	"metadata" jsonb NOT NULL,
	"callback_endpoint_id" text COLLATE "C",
	"callback_url" text,
	"callback_events" text[],
	"priority" smallint NOT NULL,
	"timeout_ms" integer,
	"retry" json,
	"paused" boolean NOT NULL,
	"next_fire_at" timestamp (3) with time zone,
	"last_fire_at" timestamp (3) with time zone,
	"last_job_id" text COLLATE "C",
	"overlap_skips" integer NOT NULL,
	"last_error" json,
	"created_at" timestamp (3) with time zone NOT NULL,
	"updated_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "job_schedules_pkey" PRIMARY KEY("account_id","id"),
	CONSTRAINT "job_schedules_name" UNIQUE("account_id","name"),
	CONSTRAINT "job_schedules_overlap" CHECK (overlap IN ('allow', 'skip')),
	CONSTRAINT "job_schedules_misfire" CHECK (misfire IN ('skip', 'fire_once', 'catch_up')),
	CONSTRAINT "job_schedules_paused" CHECK (NOT (paused AND next_fire_at IS NOT NULL))
);
--> statement-breakpoint
CREATE TABLE "ringback"."job_type_stats" (
	"type" text PRIMARY KEY NOT NULL,
	"runs" double precision NOT NULL,
	"total_ms" double precision NOT NULL,
	"updated_at" timestamp (3) with time zone NOT NULL
);
--> statement-breakpoint
ALTER TABLE "ringback"."events" DROP CONSTRAINT "events_type";--> statement-breakpoint
ALTER TABLE "ringback"."job_runs" DROP CONSTRAINT "job_runs_status";--> statement-breakpoint
ALTER TABLE "ringback"."jobs" DROP CONSTRAINT "jobs_output";--> statement-breakpoint
ALTER TABLE "ringback"."job_runs" DROP CONSTRAINT "job_runs_job";
--> statement-breakpoint
ALTER TABLE "ringback"."job_runs" ALTER COLUMN "worker_id" SET DATA TYPE text;--> statement-breakpoint
ALTER TABLE "ringback"."jobs" ALTER COLUMN "worker_id" SET DATA TYPE text;--> statement-breakpoint
ALTER TABLE "ringback"."accounts" ADD COLUMN "max_running" integer;--> statement-breakpoint
ALTER TABLE "ringback"."accounts" ADD COLUMN "max_pending" integer;--> statement-breakpoint
ALTER TABLE "ringback"."accounts" ADD COLUMN "submissions_per_second" double precision;--> statement-breakpoint
ALTER TABLE "ringback"."accounts" ADD COLUMN "retention_days" integer;--> statement-breakpoint
ALTER TABLE "ringback"."accounts" ADD COLUMN "submissions_paid_until" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "ringback"."events" ADD COLUMN "xid" "xid8" DEFAULT pg_current_xact_id() NOT NULL;--> statement-breakpoint
ALTER TABLE "ringback"."jobs" ADD COLUMN "priority" smallint NOT NULL DEFAULT 0;--> statement-breakpoint
ALTER TABLE "ringback"."jobs" ALTER COLUMN "priority" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "ringback"."jobs" ADD COLUMN "timeout_ms" integer;--> statement-breakpoint
ALTER TABLE "ringback"."jobs" ADD COLUMN "retry" json;--> statement-breakpoint
ALTER TABLE "ringback"."jobs" ADD COLUMN "run_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "ringback"."jobs" ADD COLUMN "expires_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "ringback"."jobs" ADD COLUMN "schedule_id" text COLLATE "C";--> statement-breakpoint
ALTER TABLE "ringback"."jobs" ADD COLUMN "scheduled_for" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "ringback"."jobs" ADD COLUMN "result_run_id" text COLLATE "C";--> statement-breakpoint
ALTER TABLE "ringback"."jobs" ADD COLUMN "result_type" text;--> statement-breakpoint
ALTER TABLE "ringback"."jobs" ADD COLUMN "result_bytes" bigint;--> statement-breakpoint
ALTER TABLE "ringback"."jobs" ADD COLUMN "result_sha256" "bytea";--> statement-breakpoint
ALTER TABLE "ringback"."jobs" ADD COLUMN "cancel_requested_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "ringback"."job_schedules" ADD CONSTRAINT "job_schedules_account" FOREIGN KEY ("account_id") REFERENCES "ringback"."accounts"("account_id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "run_queue_ready" ON "ringback"."run_queue" USING btree ("pool","account_id","priority" DESC NULLS FIRST,"due_at","job_id") WHERE state = 'ready';--> statement-breakpoint
CREATE INDEX "run_queue_delayed" ON "ringback"."run_queue" USING btree ("due_at") WHERE state = 'delayed';--> statement-breakpoint
CREATE INDEX "run_queue_leased" ON "ringback"."run_queue" USING btree ("pool","account_id") WHERE state = 'leased';--> statement-breakpoint
CREATE INDEX "run_queue_expiring" ON "ringback"."run_queue" USING btree ("expires_at") WHERE expires_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX "run_queue_schedule" ON "ringback"."run_queue" USING btree ("account_id","schedule_id") WHERE schedule_id IS NOT NULL;--> statement-breakpoint
CREATE INDEX "run_queue_completion" ON "ringback"."run_queue" USING btree ("completion_hash") WHERE completion_hash IS NOT NULL;--> statement-breakpoint
CREATE INDEX "idempotency_keys_expiring" ON "ringback"."idempotency_keys" USING btree ("expires_at");--> statement-breakpoint
CREATE INDEX "job_schedules_due" ON "ringback"."job_schedules" USING btree ("next_fire_at") WHERE next_fire_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX "events_feed" ON "ringback"."events" USING btree ("account_id","xid","id");--> statement-breakpoint
CREATE INDEX "jobs_by_metadata" ON "ringback"."jobs" USING gin (metadata jsonb_path_ops) WHERE metadata <> '{}';--> statement-breakpoint
ALTER TABLE "ringback"."accounts" ADD CONSTRAINT "accounts_limits" CHECK (max_running >= 0 AND max_pending >= 0 AND submissions_per_second > 0);--> statement-breakpoint
ALTER TABLE "ringback"."accounts" ADD CONSTRAINT "accounts_retention" CHECK (retention_days >= 0);--> statement-breakpoint
ALTER TABLE "ringback"."events" ADD CONSTRAINT "events_type" CHECK (type IN ('job.queued', 'job.started', 'job.retrying', 'job.succeeded', 'job.failed', 'job.canceled', 'job.expired'));--> statement-breakpoint
ALTER TABLE "ringback"."job_runs" ADD CONSTRAINT "job_runs_status" CHECK (status IN ('succeeded', 'failed', 'timed_out', 'lost', 'released', 'canceled'));--> statement-breakpoint
ALTER TABLE "ringback"."jobs" ADD CONSTRAINT "jobs_one_output" CHECK (num_nonnulls(output, result_run_id) <= 1);--> statement-breakpoint
ALTER TABLE "ringback"."jobs" ADD CONSTRAINT "jobs_result" CHECK (num_nulls(result_run_id, result_type, result_bytes, result_sha256) IN (0, 4));--> statement-breakpoint
ALTER TABLE "ringback"."jobs" ADD CONSTRAINT "jobs_priority" CHECK (priority BETWEEN -100 AND 100);--> statement-breakpoint
ALTER TABLE "ringback"."jobs" ADD CONSTRAINT "jobs_output" CHECK ((num_nonnulls(output, result_run_id) = 1) = (status = 'succeeded'));--> statement-breakpoint
-- From here on what drizzle's schema cannot say.

-- Chunks are compressed already, or not worth it: kept as they come, out of line.
ALTER TABLE ringback.result_chunks ALTER COLUMN bytes SET STORAGE EXTERNAL;
--> statement-breakpoint
-- What is pending there is read through with every search: 512 kB in 1 ms, the 4 MB of the default in 8.
ALTER INDEX ringback.jobs_by_metadata SET (gin_pending_list_limit = 512);
--> statement-breakpoint
-- A queue: every row is written three times and then deleted. Vacuumed by the number of dead rows, not by their share.
ALTER TABLE ringback.run_queue SET (
  fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
  autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.2);
--> statement-breakpoint
CREATE TABLE ringback.job_logs_default PARTITION OF ringback.job_logs DEFAULT;
--> statement-breakpoint
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ringback.job_logs
  FOR EACH ROW EXECUTE FUNCTION ringback.refuse_change();
--> statement-breakpoint
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ringback.job_logs
  FOR EACH STATEMENT EXECUTE FUNCTION ringback.refuse_change();
--> statement-breakpoint
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ringback.job_logs_default
  FOR EACH STATEMENT EXECUTE FUNCTION ringback.refuse_change();
--> statement-breakpoint
-- As before, with job_logs among the parents.
CREATE OR REPLACE FUNCTION ringback.create_partitions(since timestamptz, until timestamptz)
RETURNS TABLE (partition_name text, failure text) LANGUAGE plpgsql AS $$
DECLARE
  parent text;
  week timestamptz;
BEGIN
  -- Keepers of several processes may run at once.
  PERFORM pg_advisory_xact_lock(hashtextextended('ringback.create_partitions', 0));
  FOREACH parent IN ARRAY ARRAY['job_runs', 'events', 'delivery_attempts', 'job_logs'] LOOP
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
-- Drops the partitions of the append-only tables that end at "before" or earlier; returns a row for each one dropped or kept
-- in spite of that. The default partitions have no end, and stay. An event that has yet to be delivered keeps its partition:
-- its body is sent from there.
CREATE FUNCTION ringback.drop_partitions(before timestamptz)
RETURNS TABLE (partition_name text, failure text) LANGUAGE plpgsql AS $$
DECLARE
  parent text;
  ends timestamptz;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('ringback.create_partitions', 0));
  -- Everything that writes waits behind a lock on the parent, and so does this behind whoever reads: better not for long.
  PERFORM set_config('lock_timeout', '1s', true);
  FOR parent, partition_name, ends IN
    SELECT * FROM (
      SELECT parents.relname::text, partitions.relname::text,
        (regexp_match(pg_get_expr(partitions.relpartbound, partitions.oid), $re$ TO \('([^']+)'\)$re$))[1]::timestamptz AS bound
      FROM pg_inherits
      JOIN pg_class AS parents ON parents.oid = inhparent
      JOIN pg_class AS partitions ON partitions.oid = inhrelid
      WHERE parents.relnamespace = 'ringback'::regnamespace AND partitions.relkind = 'r'
        AND parents.relname IN ('job_runs', 'events', 'delivery_attempts', 'job_logs')) AS known
    WHERE bound <= before ORDER BY bound
  LOOP
    failure := NULL;
    IF parent = 'events' AND EXISTS (
      SELECT FROM ringback.deliveries WHERE status IN ('pending', 'held') AND created_at < ends) THEN
      failure := 'deliveries of its events have not ended';
    ELSE
      BEGIN
        EXECUTE format('DROP TABLE ringback.%I', partition_name);
      EXCEPTION WHEN OTHERS THEN
        failure := SQLERRM;
      END;
    END IF;
    RETURN NEXT;
  END LOOP;
END $$;
--> statement-breakpoint
-- Jobs that an earlier version accepted: they were queued in pg-boss, whose run queue is gone. A run under way then is
-- taken for lost once its lease, begun now, runs out. How long a run may take, the job type says to whoever runs it: a day
-- is the most that it can say.
INSERT INTO ringback.run_queue (
  account_id, job_id, type, pool, state, priority, timeout_ms, due_at, run_id, worker_id, held_by, lease_expires_at, deadline_at)
SELECT
  account_id, id, type, 'shared',
  CASE WHEN run_id IS NOT NULL THEN 'leased' WHEN next_run_at IS NOT NULL THEN 'delayed' ELSE 'ready' END,
  0, 86400000, coalesce(next_run_at, created_at), run_id,
  CASE WHEN run_id IS NOT NULL THEN worker_id END,
  CASE WHEN run_id IS NOT NULL THEN 'runner' END,
  CASE WHEN run_id IS NOT NULL THEN now() + interval '15 seconds' END,
  CASE WHEN run_id IS NOT NULL THEN now() + interval '1 day' END
FROM ringback.jobs WHERE status IN ('queued', 'in_progress');
