import type { WorkerId } from '#domain/ids.ts';
import type { Connection, Database } from './database.ts';

/** Any number, as long as it is only ours: "RBPR" in ASCII. The first half of the key of each process's lock. */
const LOCK_CLASS = 0x52425052;

/**
 * Takes the lock by which others see that a process lives: PostgreSQL lets go of it when the session ends, however it ends. Shared, so
 * that a process whose connection was cut does not wait for the end of the session that it has lost.
 */
export async function lockPresence(sql: Connection, workerId: WorkerId): Promise<void> {
  await sql`SELECT pg_advisory_lock_shared(${LOCK_CLASS}::int, hashtext(${workerId}))`;
}

/** A sign of life. Its commit does not wait for the disk: one that is lost is followed by another. */
export async function recordPresence({ sql }: Database, workerId: WorkerId): Promise<void> {
  await sql`
    INSERT INTO ringback.processes (worker_id, seen_at)
    SELECT ${workerId}, now() FROM set_config('synchronous_commit', 'off', true)
    ON CONFLICT (worker_id) DO UPDATE SET seen_at = excluded.seen_at`;
}

/** Says that a process stops: what it still holds need not wait for its silence. */
export async function recordDeparture({ sql }: Database, workerId: WorkerId): Promise<void> {
  await sql`UPDATE ringback.processes SET seen_at = '-infinity' WHERE worker_id = ${workerId}`;
}

/**
 * Processes that have given no sign of life for so long, on any connection, and hold their lock no more. While all are well, the locks
 * are not looked at.
 */
export async function findSilentProcesses({ sql }: Database, silentMs: number): Promise<WorkerId[]> {
  const silent = await sql<{ workerId: WorkerId }[]>`
    SELECT worker_id AS "workerId" FROM ringback.processes AS process
    -- A sign of the future is of no use: the clock was ahead when it was given, and the sign was not renewed since.
    WHERE (seen_at < now() - ${silentMs} * interval '1 ms' OR seen_at > now() + interval '1 min') AND NOT EXISTS (
      SELECT FROM pg_locks AS held
      WHERE locktype = 'advisory' AND classid::bigint = ${LOCK_CLASS} AND objsubid = 2
        -- The key as pg_locks has it: without a sign.
        AND objid::bigint = hashtext(process.worker_id)::bigint & 4294967295
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`;
  return silent.map(({ workerId }) => workerId);
}

/** For dead ones that hold nothing any more. One that lives after all says so again. */
export async function forgetProcesses({ sql }: Database, workerIds: readonly WorkerId[]): Promise<void> {
  await sql`DELETE FROM ringback.processes WHERE worker_id = ANY (${[...workerIds]}::text[])`;
}
