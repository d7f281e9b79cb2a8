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

/** Drops the partitions that end before a time; answers those it dropped, or had to keep and why. */
export async function dropPartitions(
  { sql }: Database,
  before: Date,
): Promise<ReadonlyArray<{ name: string; failure: string | null }>> {
  return sql<{ name: string; failure: string | null }[]>`
    SELECT partition_name AS name, failure FROM ringback.drop_partitions(${before})`;
}
