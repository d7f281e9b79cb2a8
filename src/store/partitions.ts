import type { Database } from './database.ts';

/** Weeks made ahead: a keeper may be down for a month before rows land in the default partitions. */
const DAYS_AHEAD = 28;

/** Makes the weekly partitions that are coming; answers those it made, or could not make and why. */
export async function createPartitions(
  { sql }: Database,
  now: Date,
): Promise<ReadonlyArray<{ name: string; failure: string | null }>> {
  const until = new Date(now.getTime() + DAYS_AHEAD * 86_400_000);
  return sql<{ name: string; failure: string | null }[]>`
    SELECT partition_name AS name, failure FROM ringback.create_partitions(${now}, ${until})`;
}

/** Partitions of attempts that were too large to be indexed by job while the migration held them. */
export async function unindexedPartitions({ sql }: Database): Promise<string[]> {
  const partitions = await sql<{ name: string }[]>`
    SELECT part.relname AS name FROM pg_inherits AS child JOIN pg_class AS part ON part.oid = child.inhrelid
    WHERE child.inhparent = 'ringback.delivery_attempts'::regclass AND NOT EXISTS (
      SELECT FROM pg_index AS index JOIN pg_inherits AS attached ON attached.inhrelid = index.indexrelid
      WHERE index.indrelid = part.oid AND attached.inhparent = 'ringback.delivery_attempts_of_job'::regclass)
      -- Another process is at it.
      AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index AS build WHERE build.relid = part.oid)
    ORDER BY part.relname DESC`;
  return partitions.map(({ name }) => name);
}

/** Hours, at most: a build reads the whole partition, beside those who write to it. */
const INDEX_TIMEOUT_MS = 6 * 3_600_000;

/** Builds the index and makes it part of `delivery_attempts_of_job`. What a build that was cut off has left is built anew. */
export async function indexPartition(db: Database, partition: string): Promise<void> {
  const { sql } = db.within(INDEX_TIMEOUT_MS);
  const name = `${partition}_of_job`;
  await sql.unsafe(`DROP INDEX CONCURRENTLY IF EXISTS ringback.${name}`, [], { standalone: true });
  await sql.unsafe(`CREATE INDEX CONCURRENTLY ${name} ON ringback.${partition} (job_id)`, [], { standalone: true });
  await sql.unsafe(`ALTER INDEX ringback.delivery_attempts_of_job ATTACH PARTITION ringback.${name}`);
}

/** Drops the partitions that end before a time; answers those it dropped, or had to keep and why. */
export async function dropPartitions(
  { sql }: Database,
  before: Date,
): Promise<ReadonlyArray<{ name: string; failure: string | null }>> {
  return sql<{ name: string; failure: string | null }[]>`
    SELECT partition_name AS name, failure FROM ringback.drop_partitions(${before})`;
}
