CREATE TABLE "ringback"."database_epochs" (
	"number" integer PRIMARY KEY NOT NULL,
	"token" text NOT NULL,
	"identity" text NOT NULL,
	"generation" integer NOT NULL,
	"began_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "database_epochs_token_unique" UNIQUE("token")
);
--> statement-breakpoint
-- Positions in the feed are transaction ids with a generation in their upper bits. `recogniseDatabase` replaces this function
-- whenever the data finds itself on another server, so that what is written there comes after all that was restored.
CREATE FUNCTION ringback.feed_generation() RETURNS bigint LANGUAGE sql VOLATILE BEGIN ATOMIC SELECT 0::bigint; END;
--> statement-breakpoint
-- In SQL and VOLATILE, so that the planner puts its expression where it is called: nothing is called per row.
CREATE FUNCTION ringback.feed_position(xid xid8) RETURNS xid8 LANGUAGE sql VOLATILE
BEGIN ATOMIC SELECT ((ringback.feed_generation() << 44) | xid::text::bigint)::text::xid8; END;
--> statement-breakpoint
ALTER TABLE "ringback"."events" ALTER COLUMN "xid" SET DEFAULT ringback.feed_position(pg_current_xact_id());--> statement-breakpoint
ALTER TABLE "ringback"."job_runs" ADD COLUMN "stack" text;--> statement-breakpoint
-- ONLY: the partitions of a running installation get theirs one by one, without a lock (`indexPartitions`); small ones at once.
CREATE INDEX "delivery_attempts_of_job" ON ONLY "ringback"."delivery_attempts" USING btree ("job_id");--> statement-breakpoint
DO $$
DECLARE
  part text;
BEGIN
  FOR part IN SELECT inhrelid::regclass FROM pg_inherits
    WHERE inhparent = 'ringback.delivery_attempts'::regclass AND pg_relation_size(inhrelid) < 16 * 1024 * 1024 LOOP
    EXECUTE format('CREATE INDEX %I ON %s (job_id)', split_part(part, '.', 2) || '_of_job', part);
    EXECUTE format('ALTER INDEX ringback.delivery_attempts_of_job ATTACH PARTITION ringback.%I', split_part(part, '.', 2) || '_of_job');
  END LOOP;
END $$;
