CREATE TABLE "ringback"."endpoint_health" (
	"account_id" text COLLATE "C" NOT NULL,
	"endpoint_id" text COLLATE "C" NOT NULL,
	"circuit" text DEFAULT 'closed' NOT NULL,
	"resume_at" timestamp (3) with time zone,
	"allowance" integer,
	"level" smallint DEFAULT 0 NOT NULL,
	"consecutive_failures" integer DEFAULT 0 NOT NULL,
	"failing_since" timestamp (3) with time zone,
	"last_success_at" timestamp (3) with time zone,
	"last_failure_at" timestamp (3) with time zone,
	CONSTRAINT "endpoint_health_pkey" PRIMARY KEY("account_id","endpoint_id"),
	CONSTRAINT "endpoint_health_circuit" CHECK (circuit IN ('closed', 'open')),
	CONSTRAINT "endpoint_health_failing" CHECK ((failing_since IS NOT NULL) = (consecutive_failures > 0)),
	CONSTRAINT "endpoint_health_open" CHECK (circuit = 'closed' OR resume_at IS NOT NULL)
);
--> statement-breakpoint
CREATE TABLE "ringback"."endpoint_lanes" (
	"account_id" text COLLATE "C" NOT NULL,
	"endpoint_id" text COLLATE "C" NOT NULL,
	"claims" bigint DEFAULT 0 NOT NULL,
	"paid_until" timestamp (3) with time zone,
	"blocked_until" timestamp (3) with time zone,
	CONSTRAINT "endpoint_lanes_pkey" PRIMARY KEY("account_id","endpoint_id")
);
--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" DROP CONSTRAINT "endpoints_url";--> statement-breakpoint
ALTER TABLE "ringback"."deliveries" DROP CONSTRAINT "deliveries_event_type";--> statement-breakpoint
ALTER TABLE "ringback"."deliveries" DROP CONSTRAINT "deliveries_attempts";--> statement-breakpoint
ALTER TABLE "ringback"."events" DROP CONSTRAINT "events_type";--> statement-breakpoint
DROP INDEX "ringback"."delivery_queue_ready";--> statement-breakpoint
ALTER TABLE "ringback"."deliveries" ALTER COLUMN "job_id" DROP NOT NULL;--> statement-breakpoint
ALTER TABLE "ringback"."delivery_attempts" ALTER COLUMN "job_id" DROP NOT NULL;--> statement-breakpoint
ALTER TABLE "ringback"."events" ALTER COLUMN "job_id" DROP NOT NULL;--> statement-breakpoint
ALTER TABLE "ringback"."events" ALTER COLUMN "sequence" DROP NOT NULL;--> statement-breakpoint
ALTER TABLE "ringback"."deliveries" ADD COLUMN "position" bigint NOT NULL GENERATED ALWAYS AS IDENTITY (sequence name "ringback"."deliveries_position_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1);--> statement-breakpoint
ALTER TABLE "ringback"."deliveries" ADD COLUMN "schedule_from" integer DEFAULT 0;--> statement-breakpoint
ALTER TABLE "ringback"."endpoint_secrets" ADD COLUMN "scheme" text DEFAULT 'v1' NOT NULL;--> statement-breakpoint
ALTER TABLE "ringback"."endpoint_secrets" ADD COLUMN "public_key" "bytea";--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD COLUMN "description" text;--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD COLUMN "metadata" jsonb DEFAULT '{}'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD COLUMN "event_types" text[] DEFAULT '{}' NOT NULL;--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD COLUMN "headers" jsonb DEFAULT '{}'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD COLUMN "timeout_ms" integer;--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD COLUMN "concurrency" integer;--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD COLUMN "rate_per_second" double precision;--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD COLUMN "retry_schedule" integer[];--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD COLUMN "ordering" text DEFAULT 'job' NOT NULL;--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD COLUMN "status" text DEFAULT 'enabled' NOT NULL;--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD COLUMN "disabled_reason" text;--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD COLUMN "deleted_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "ringback"."delivery_queue" ADD COLUMN "position" bigint;--> statement-breakpoint
UPDATE ringback.delivery_queue AS item SET position = delivery.position FROM ringback.deliveries AS delivery
WHERE delivery.account_id = item.account_id AND delivery.id = item.delivery_id;--> statement-breakpoint
ALTER TABLE "ringback"."delivery_queue" ALTER COLUMN "position" SET NOT NULL;--> statement-breakpoint
ALTER TABLE "ringback"."delivery_queue" ADD COLUMN "trigger" text DEFAULT 'scheduled' NOT NULL;--> statement-breakpoint
ALTER TABLE "ringback"."endpoint_health" ADD CONSTRAINT "endpoint_health_endpoint" FOREIGN KEY ("account_id","endpoint_id") REFERENCES "ringback"."endpoints"("account_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "ringback"."endpoint_lanes" ADD CONSTRAINT "endpoint_lanes_endpoint" FOREIGN KEY ("account_id","endpoint_id") REFERENCES "ringback"."endpoints"("account_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "deliveries_of_endpoint" ON "ringback"."deliveries" USING btree ("endpoint_id","id");--> statement-breakpoint
CREATE UNIQUE INDEX "endpoints_url" ON "ringback"."endpoints" USING btree ("account_id","url") WHERE deleted_at IS NULL;--> statement-breakpoint
CREATE INDEX "endpoints_subscribed" ON "ringback"."endpoints" USING btree ((account_id || '')) WHERE event_types <> '{}' AND deleted_at IS NULL;--> statement-breakpoint
CREATE INDEX "delivery_queue_ready" ON "ringback"."delivery_queue" USING btree ("account_id","endpoint_id","position") WHERE state = 'ready';--> statement-breakpoint
ALTER TABLE "ringback"."deliveries" ADD CONSTRAINT "deliveries_event_type" CHECK (event_type IN ('job.succeeded', 'job.failed', 'job.canceled', 'job.expired', 'endpoint.disabled', 'endpoint.recovered', 'endpoint.ping', 'delivery.exhausted'));--> statement-breakpoint
ALTER TABLE "ringback"."deliveries" ADD CONSTRAINT "deliveries_attempts" CHECK (attempt_count >= 0 AND schedule_from <= attempt_count);--> statement-breakpoint
ALTER TABLE "ringback"."endpoint_secrets" ADD CONSTRAINT "endpoint_secrets_scheme" CHECK (scheme IN ('v1', 'v1a'));--> statement-breakpoint
ALTER TABLE "ringback"."endpoint_secrets" ADD CONSTRAINT "endpoint_secrets_public_key" CHECK ((octet_length(public_key) = 32) IS NOT DISTINCT FROM CASE WHEN scheme = 'v1a' THEN true END);--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD CONSTRAINT "endpoints_status" CHECK (status IN ('enabled', 'paused', 'disabled'));--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD CONSTRAINT "endpoints_ordering" CHECK (ordering IN ('none', 'job', 'endpoint'));--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD CONSTRAINT "endpoints_disabled_reason" CHECK (disabled_reason IN ('gone', 'failing'));--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD CONSTRAINT "endpoints_disabled" CHECK ((disabled_reason IS NOT NULL) = (status = 'disabled'));--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD CONSTRAINT "endpoints_limits" CHECK (timeout_ms > 0 AND concurrency > 0 AND rate_per_second > 0);--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD CONSTRAINT "endpoints_retry_schedule" CHECK (cardinality(retry_schedule) > 0);--> statement-breakpoint
ALTER TABLE "ringback"."delivery_queue" ADD CONSTRAINT "delivery_queue_trigger" CHECK (trigger IN ('scheduled', 'manual', 'probe'));--> statement-breakpoint
ALTER TABLE "ringback"."events" ADD CONSTRAINT "events_of_a_job" CHECK (num_nulls(job_id, sequence) = CASE WHEN type LIKE 'job.%' THEN 0 ELSE 2 END);--> statement-breakpoint
ALTER TABLE "ringback"."events" ADD CONSTRAINT "events_type" CHECK (type IN ('job.queued', 'job.started', 'job.retrying', 'job.succeeded', 'job.failed', 'job.canceled', 'job.expired', 'endpoint.disabled', 'endpoint.recovered', 'endpoint.ping', 'delivery.exhausted'));
--> statement-breakpoint
INSERT INTO ringback.endpoint_lanes (account_id, endpoint_id) SELECT account_id, id FROM ringback.endpoints;
--> statement-breakpoint
INSERT INTO ringback.endpoint_health (account_id, endpoint_id) SELECT account_id, id FROM ringback.endpoints;
--> statement-breakpoint
-- Both are written often, and neither has an index on what changes.
ALTER TABLE ringback.endpoint_lanes SET (fillfactor = 50);
--> statement-breakpoint
ALTER TABLE ringback.endpoint_health SET (fillfactor = 50);
