CREATE TABLE "ringback"."delivery_queue" (
	"account_id" text COLLATE "C" NOT NULL,
	"delivery_id" text COLLATE "C" NOT NULL,
	"endpoint_id" text COLLATE "C" NOT NULL,
	"event_id" text COLLATE "C" NOT NULL,
	"event_created_at" timestamp (3) with time zone NOT NULL,
	"state" text NOT NULL,
	"due_at" timestamp (3) with time zone NOT NULL,
	"attempt_id" text COLLATE "C",
	"worker_id" text COLLATE "C",
	"leased_at" timestamp (3) with time zone,
	"lease_expires_at" timestamp (3) with time zone,
	CONSTRAINT "delivery_queue_pkey" PRIMARY KEY("account_id","delivery_id"),
	CONSTRAINT "delivery_queue_state" CHECK (state IN ('delayed', 'ready', 'leased')),
	CONSTRAINT "delivery_queue_lease" CHECK (num_nulls(attempt_id, worker_id, leased_at, lease_expires_at) = CASE WHEN state = 'leased' THEN 0 ELSE 4 END)
);
--> statement-breakpoint
DROP INDEX "ringback"."events_feed";--> statement-breakpoint
CREATE INDEX "delivery_queue_ready" ON "ringback"."delivery_queue" USING btree ("account_id","endpoint_id","due_at","delivery_id") WHERE state = 'ready';--> statement-breakpoint
CREATE INDEX "delivery_queue_delayed" ON "ringback"."delivery_queue" USING btree ("due_at") WHERE state = 'delayed';--> statement-breakpoint
CREATE INDEX "delivery_queue_leased" ON "ringback"."delivery_queue" USING btree ("account_id","endpoint_id") WHERE state = 'leased';--> statement-breakpoint
CREATE INDEX "events_feed" ON "ringback"."events" USING btree ((account_id || ''),"xid","id");
--> statement-breakpoint
-- Deliveries that an earlier version queued in pg-boss, whose tables are read no more: what it had under way is sent again.
INSERT INTO ringback.delivery_queue (account_id, delivery_id, endpoint_id, event_id, event_created_at, state, due_at)
SELECT delivery.account_id, delivery.id, delivery.endpoint_id, delivery.event_id, event.created_at,
  CASE WHEN delivery.next_attempt_at <= now() THEN 'ready' ELSE 'delayed' END, delivery.next_attempt_at
FROM ringback.deliveries AS delivery
JOIN ringback.events AS event ON event.account_id = delivery.account_id AND event.id = delivery.event_id
WHERE delivery.status = 'pending';
--> statement-breakpoint
-- A queue, as `run_queue` is.
ALTER TABLE ringback.delivery_queue SET (
  fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
  autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.2);
