CREATE TABLE "ringback"."processes" (
	"worker_id" text COLLATE "C" PRIMARY KEY NOT NULL,
	"seen_at" timestamp (3) with time zone NOT NULL
);
