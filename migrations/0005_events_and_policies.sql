ALTER TABLE "ringback"."deliveries" DROP CONSTRAINT "deliveries_status";--> statement-breakpoint
ALTER TABLE "ringback"."deliveries" DROP CONSTRAINT "deliveries_event_type";--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" DROP CONSTRAINT "endpoints_status";--> statement-breakpoint
ALTER TABLE "ringback"."delivery_queue" DROP CONSTRAINT "delivery_queue_state";--> statement-breakpoint
ALTER TABLE "ringback"."events" DROP CONSTRAINT "events_type";--> statement-breakpoint
ALTER TABLE "ringback"."accounts" ADD COLUMN "callback_policy" text DEFAULT 'any' NOT NULL;--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD COLUMN "is_registered" boolean DEFAULT true NOT NULL;--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD COLUMN "tls_authorities" text;--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD COLUMN "tls_certificate" text;--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD COLUMN "tls_key_id" text;--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD COLUMN "tls_key_ciphertext" "bytea";--> statement-breakpoint
ALTER TABLE "ringback"."delivery_queue" ADD COLUMN "job_id" text COLLATE "C";--> statement-breakpoint
ALTER TABLE "ringback"."jobs" ADD COLUMN "is_start_untold" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "ringback"."jobs" ADD COLUMN "is_told" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "ringback"."jobs" ADD COLUMN "progress_told_at" timestamp (3) with time zone;--> statement-breakpoint
CREATE INDEX "delivery_queue_of_job" ON "ringback"."delivery_queue" USING btree ("job_id","endpoint_id","position") WHERE job_id IS NOT NULL;--> statement-breakpoint
ALTER TABLE "ringback"."accounts" ADD CONSTRAINT "accounts_callback_policy" CHECK (callback_policy IN ('any', 'registered', 'verified'));--> statement-breakpoint
ALTER TABLE "ringback"."deliveries" ADD CONSTRAINT "deliveries_status" CHECK (status IN ('pending', 'delivered', 'exhausted', 'held', 'discarded', 'superseded'));--> statement-breakpoint
ALTER TABLE "ringback"."deliveries" ADD CONSTRAINT "deliveries_event_type" CHECK (event_type IN ('job.queued', 'job.started', 'job.progress', 'job.succeeded', 'job.failed', 'job.canceled', 'job.expired', 'endpoint.disabled', 'endpoint.recovered', 'endpoint.ping', 'endpoint.challenge', 'delivery.exhausted'));--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD CONSTRAINT "endpoints_tls_identity" CHECK (num_nulls(tls_certificate, tls_key_id, tls_key_ciphertext) IN (0, 3));--> statement-breakpoint
ALTER TABLE "ringback"."endpoints" ADD CONSTRAINT "endpoints_status" CHECK (status IN ('unverified', 'enabled', 'paused', 'disabled'));--> statement-breakpoint
ALTER TABLE "ringback"."delivery_queue" ADD CONSTRAINT "delivery_queue_behind" CHECK (state <> 'behind' OR job_id IS NOT NULL);--> statement-breakpoint
ALTER TABLE "ringback"."delivery_queue" ADD CONSTRAINT "delivery_queue_state" CHECK (state IN ('behind', 'delayed', 'ready', 'leased'));--> statement-breakpoint
ALTER TABLE "ringback"."events" ADD CONSTRAINT "events_type" CHECK (type IN ('job.queued', 'job.started', 'job.progress', 'job.succeeded', 'job.failed', 'job.canceled', 'job.expired', 'job.retrying', 'endpoint.disabled', 'endpoint.recovered', 'endpoint.ping', 'endpoint.challenge', 'delivery.exhausted'));--> statement-breakpoint
ALTER TABLE "ringback"."jobs" ADD CONSTRAINT "jobs_start_untold" CHECK (NOT is_start_untold OR run_count > 0);