CREATE TABLE "ringback"."database_clock" (
	"only_row" boolean PRIMARY KEY DEFAULT true NOT NULL,
	"confirmed_at" timestamp (3) with time zone NOT NULL,
	"doubted_since" timestamp (3) with time zone,
	"doubted_at" timestamp (3) with time zone,
	CONSTRAINT "database_clock_one_row" CHECK (only_row)
);
--> statement-breakpoint
-- The last that is known of the clock in an installation that has run: when its latest run was counted.
INSERT INTO ringback.database_clock (confirmed_at) SELECT coalesce(max(updated_at), now()) FROM ringback.job_type_stats;
