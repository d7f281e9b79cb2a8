-- The migrator keeps its own table in this schema, so it exists already.
CREATE SCHEMA IF NOT EXISTS "ringback";
--> statement-breakpoint
CREATE TABLE "ringback"."accounts" (
	"account_id" text COLLATE "C" PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "accounts_name" UNIQUE("name")
);
--> statement-breakpoint
CREATE TABLE "ringback"."api_keys" (
	"account_id" text COLLATE "C" NOT NULL,
	"id" text COLLATE "C" NOT NULL,
	"hash" "bytea" NOT NULL,
	"last_four" text NOT NULL,
	"scopes" text[] NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	"revoked_at" timestamp (3) with time zone,
	CONSTRAINT "api_keys_pkey" PRIMARY KEY("account_id","id"),
	CONSTRAINT "api_keys_hash_is_sha256" CHECK (octet_length(hash) = 32)
);
--> statement-breakpoint
CREATE TABLE "ringback"."deliveries" (
	"account_id" text COLLATE "C" NOT NULL,
	"id" text COLLATE "C" NOT NULL,
	"event_id" text COLLATE "C" NOT NULL,
	"event_type" text NOT NULL,
	"job_id" text COLLATE "C" NOT NULL,
	"endpoint_id" text COLLATE "C" NOT NULL,
	"status" text NOT NULL,
	"attempt_count" integer NOT NULL,
	"next_attempt_at" timestamp (3) with time zone,
	"created_at" timestamp (3) with time zone NOT NULL,
	"updated_at" timestamp (3) with time zone NOT NULL,
	"finished_at" timestamp (3) with time zone,
	CONSTRAINT "deliveries_pkey" PRIMARY KEY("account_id","id"),
	CONSTRAINT "deliveries_event_endpoint" UNIQUE("event_id","endpoint_id","account_id"),
	CONSTRAINT "deliveries_status" CHECK (status IN ('pending', 'delivered', 'exhausted', 'held', 'discarded')),
	CONSTRAINT "deliveries_event_type" CHECK (event_type IN ('job.succeeded', 'job.failed', 'job.canceled', 'job.expired')),
	CONSTRAINT "deliveries_due" CHECK ((next_attempt_at IS NOT NULL) = (status = 'pending')),
	CONSTRAINT "deliveries_finished" CHECK ((finished_at IS NOT NULL) = (status NOT IN ('pending', 'held'))),
	CONSTRAINT "deliveries_attempts" CHECK (attempt_count >= 0)
);
--> statement-breakpoint
CREATE TABLE "ringback"."delivery_attempts" (
	"account_id" text COLLATE "C" NOT NULL,
	"id" text COLLATE "C" NOT NULL,
	"delivery_id" text COLLATE "C" NOT NULL,
	"event_id" text COLLATE "C" NOT NULL,
	"job_id" text COLLATE "C" NOT NULL,
	"endpoint_id" text COLLATE "C" NOT NULL,
	"number" integer NOT NULL,
	"trigger" text NOT NULL,
	"method" text NOT NULL,
	"url" text NOT NULL,
	"remote_address" text,
	"request_headers" json,
	"body_sha256" "bytea",
	"body_bytes" integer,
	"signed_by" text[] NOT NULL,
	"outcome" text NOT NULL,
	"error_code" text,
	"error_detail" text,
	"response_status" integer,
	"response_headers" json,
	"response_body" "bytea",
	"response_bytes" integer,
	"response_truncated" boolean,
	"dns_ms" double precision,
	"connect_ms" double precision,
	"tls_ms" double precision,
	"first_byte_ms" double precision,
	"total_ms" double precision,
	"started_at" timestamp (3) with time zone NOT NULL,
	"finished_at" timestamp (3) with time zone,
	"next_attempt_at" timestamp (3) with time zone,
	"worker_id" text COLLATE "C" NOT NULL,
	"trace_id" text,
	CONSTRAINT "delivery_attempts_pkey" PRIMARY KEY("account_id","id","started_at"),
	CONSTRAINT "delivery_attempts_outcome" CHECK (outcome IN ('delivered', 'rejected', 'timeout', 'dns', 'network', 'tls', 'protocol', 'blocked', 'interrupted')),
	CONSTRAINT "delivery_attempts_trigger" CHECK (trigger IN ('scheduled', 'manual', 'probe')),
	CONSTRAINT "delivery_attempts_number" CHECK (number >= 1),
	CONSTRAINT "delivery_attempts_error" CHECK ((error_code IS NULL) = (outcome = 'delivered')),
	CONSTRAINT "delivery_attempts_finished" CHECK ((finished_at IS NULL) = (outcome = 'interrupted'))
) PARTITION BY RANGE ("started_at");
--> statement-breakpoint
CREATE TABLE "ringback"."endpoint_secrets" (
	"account_id" text COLLATE "C" NOT NULL,
	"id" text COLLATE "C" NOT NULL,
	"endpoint_id" text COLLATE "C" NOT NULL,
	"key_id" text NOT NULL,
	"ciphertext" "bytea" NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	"expires_at" timestamp (3) with time zone,
	CONSTRAINT "endpoint_secrets_pkey" PRIMARY KEY("account_id","id")
);
--> statement-breakpoint
CREATE TABLE "ringback"."endpoints" (
	"account_id" text COLLATE "C" NOT NULL,
	"id" text COLLATE "C" NOT NULL,
	"url" text NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	"updated_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "endpoints_pkey" PRIMARY KEY("account_id","id"),
	CONSTRAINT "endpoints_url" UNIQUE("account_id","url"),
	CONSTRAINT "endpoints_url_length" CHECK (octet_length(url) <= 2000)
);
--> statement-breakpoint
CREATE TABLE "ringback"."events" (
	"account_id" text COLLATE "C" NOT NULL,
	"id" text COLLATE "C" NOT NULL,
	"type" text NOT NULL,
	"job_id" text COLLATE "C" NOT NULL,
	"sequence" integer NOT NULL,
	"body" "bytea",
	"created_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "events_pkey" PRIMARY KEY("account_id","id","created_at"),
	CONSTRAINT "events_type" CHECK (type IN ('job.queued', 'job.started', 'job.succeeded', 'job.failed', 'job.canceled', 'job.expired'))
) PARTITION BY RANGE ("created_at");
--> statement-breakpoint
CREATE TABLE "ringback"."job_runs" (
	"account_id" text COLLATE "C" NOT NULL,
	"id" text COLLATE "C" NOT NULL,
	"job_id" text COLLATE "C" NOT NULL,
	"number" integer NOT NULL,
	"status" text NOT NULL,
	"worker_id" text COLLATE "C" NOT NULL,
	"error" json,
	"started_at" timestamp (3) with time zone NOT NULL,
	"finished_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "job_runs_pkey" PRIMARY KEY("account_id","id","started_at"),
	CONSTRAINT "job_runs_status" CHECK (status IN ('succeeded', 'failed', 'timed_out', 'lost', 'released')),
	CONSTRAINT "job_runs_number" CHECK (number >= 1),
	CONSTRAINT "job_runs_error" CHECK ((error IS NULL) = (status IN ('succeeded', 'released')))
) PARTITION BY RANGE ("started_at");
--> statement-breakpoint
CREATE TABLE "ringback"."jobs" (
	"account_id" text COLLATE "C" NOT NULL,
	"id" text COLLATE "C" NOT NULL,
	"type" text NOT NULL,
	"status" text NOT NULL,
	"input" json NOT NULL,
	"output" json,
	"error" json,
	"progress" json,
	"metadata" jsonb NOT NULL,
	"callback_endpoint_id" text COLLATE "C",
	"callback_url" text,
	"callback_events" text[],
	"run_count" integer NOT NULL,
	"failure_count" integer NOT NULL,
	"sequence" integer NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	"updated_at" timestamp (3) with time zone NOT NULL,
	"started_at" timestamp (3) with time zone,
	"run_id" text COLLATE "C",
	"run_started_at" timestamp (3) with time zone,
	"worker_id" text COLLATE "C",
	"next_run_at" timestamp (3) with time zone,
	"finished_at" timestamp (3) with time zone,
	CONSTRAINT "jobs_pkey" PRIMARY KEY("account_id","id"),
	CONSTRAINT "jobs_status" CHECK (status IN ('queued', 'in_progress', 'succeeded', 'failed', 'canceled', 'expired')),
	CONSTRAINT "jobs_finished" CHECK ((finished_at IS NOT NULL) = (status IN ('succeeded', 'failed', 'canceled', 'expired'))),
	CONSTRAINT "jobs_started" CHECK (status NOT IN ('in_progress', 'succeeded') OR started_at IS NOT NULL),
	CONSTRAINT "jobs_output" CHECK ((output IS NOT NULL) = (status = 'succeeded')),
	CONSTRAINT "jobs_error" CHECK ((error IS NOT NULL) = (status IN ('failed', 'canceled', 'expired'))),
	CONSTRAINT "jobs_run" CHECK (num_nulls(run_started_at, worker_id) = CASE WHEN run_count = 0 THEN 2 ELSE 0 END),
	CONSTRAINT "jobs_running" CHECK (run_id IS NULL OR (status = 'in_progress' AND next_run_at IS NULL AND run_count > 0)),
	CONSTRAINT "jobs_next_run" CHECK (next_run_at IS NULL OR status = 'in_progress'),
	CONSTRAINT "jobs_callback" CHECK ((callback_endpoint_id IS NULL) = (callback_url IS NULL)),
	CONSTRAINT "jobs_metadata" CHECK (jsonb_typeof(metadata) = 'object'),
	CONSTRAINT "jobs_counts" CHECK (run_count >= failure_count AND failure_count >= 0 AND sequence >= 1)
);
--> statement-breakpoint
ALTER TABLE "ringback"."api_keys" ADD CONSTRAINT "api_keys_account" FOREIGN KEY ("account_id") REFERENCES "ringback"."accounts"("account_id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "ringback"."deliveries" ADD CONSTRAINT "deliveries_job" FOREIGN KEY ("account_id","job_id") REFERENCES "ringback"."jobs"("account_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "ringback"."endpoint_secrets" ADD CONSTRAINT "endpoint_secrets_endpoint" FOREIGN KEY ("account_id","endpoint_id") REFERENCES "ringback"."endpoints"("account_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD CONSTRAINT "endpoints_account" FOREIGN KEY ("account_id") REFERENCES "ringback"."accounts"("account_id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "ringback"."job_runs" ADD CONSTRAINT "job_runs_job" FOREIGN KEY ("account_id","job_id") REFERENCES "ringback"."jobs"("account_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "api_keys_hash" ON "ringback"."api_keys" USING btree ("hash");--> statement-breakpoint
CREATE INDEX "deliveries_of_job" ON "ringback"."deliveries" USING btree ("job_id");--> statement-breakpoint
CREATE INDEX "delivery_attempts_of_delivery" ON "ringback"."delivery_attempts" USING btree ("delivery_id","number");--> statement-breakpoint
CREATE INDEX "endpoint_secrets_of_endpoint" ON "ringback"."endpoint_secrets" USING btree ("endpoint_id");--> statement-breakpoint
CREATE INDEX "events_of_job" ON "ringback"."events" USING btree ("job_id","sequence");--> statement-breakpoint
CREATE INDEX "job_runs_of_job" ON "ringback"."job_runs" USING btree ("job_id","number");