import { randomBytes } from 'node:crypto';
import type { Connection, Database } from './database.ts';
import { codeOf } from './sql-errors.ts';

/**
 * Transaction ids mean something within one cluster only, and there only as long as it is not restored to an earlier moment. So
 * the data remembers where it lives, and begins a new epoch when it finds itself elsewhere: see docs/decisions/0022.
 */

/** Generations between two epochs: promotions that happened before anything was recorded raise the generation too. */
const STEP = 8;
/** Writers wait behind the lock while it is waited for. */
const LOCK_TIMEOUT = '2s';

export interface EpochChange {
  readonly number: number;
  readonly identity: string;
}

interface Epoch extends EpochChange {
  readonly generation: number;
}

interface Place {
  readonly identity: string;
  /** Null when the role may not ask for it. */
  readonly timeline: number | null;
}

/**
 * Begins a new epoch when the data is on another server, in another database, on another timeline, or its server was started
 * anew: a snapshot of its disks may have been restored meanwhile. Returns the epoch that began; undefined when it is where it was, or the
 * server is a standby. Rejects with 55P03 (`isEpochBusy`) while a forgotten transaction stands in the way: to be tried again.
 */
export async function recogniseDatabase(tx: Connection): Promise<EpochChange | undefined> {
  const here = await readPlace(tx);
  if (here === undefined || (await readEpoch(tx))?.identity === here.identity) return undefined;
  await tx`SELECT set_config('lock_timeout', ${LOCK_TIMEOUT}, true)`;
  // Waits for all that write events. Whoever comes later plans with the new function, and all that came before are below it.
  await tx`LOCK TABLE ONLY ringback.events IN SHARE ROW EXCLUSIVE MODE`;
  const epoch = await readEpoch(tx);
  if (epoch?.identity === here.identity) return undefined;
  const [{ generation: current }] = await tx<[{ generation: number }]>`
    SELECT ringback.feed_generation()::int AS generation`;
  const next = {
    number: (epoch?.number ?? 0) + 1,
    identity: here.identity,
    generation: Math.max(epoch?.generation ?? 0, current) + STEP,
  };
  await setGeneration(tx, next.generation, here.timeline);
  await tx`
    INSERT INTO ringback.database_epochs (number, token, identity, generation, began_at)
    VALUES (${next.number}, ${randomBytes(9).toString('base64url')}, ${next.identity}, ${next.generation}, now())`;
  return next;
}

/** The same in a transaction of its own. */
export function recogniseAgain(db: Database): Promise<EpochChange | undefined> {
  return db.transaction((tx) => recogniseDatabase(tx));
}

/** A transaction that has written events is open, and nobody could say when it ends. */
export function isEpochBusy(error: unknown): boolean {
  return codeOf(error) === '55P03';
}

async function readEpoch(tx: Connection): Promise<Epoch | undefined> {
  const [epoch] = await tx<Epoch[]>`
    SELECT number, identity, generation FROM ringback.database_epochs ORDER BY number DESC LIMIT 1`;
  return epoch;
}

/** Undefined on a standby, whose timeline is not its own. */
async function readPlace(tx: Connection): Promise<Place | undefined> {
  const [may] = await tx<[{ isStandby: boolean; system: boolean; timeline: boolean }]>`
    SELECT pg_is_in_recovery() AS "isStandby", has_function_privilege('pg_control_system()', 'execute') AS system,
      has_function_privilege('pg_walfile_name(pg_lsn)', 'execute')
        AND has_function_privilege('pg_current_wal_insert_lsn()', 'execute') AS timeline`;
  if (may.isStandby) return undefined;
  const [server] = await tx<[{ oid: string; startedAt: string }]>`
    SELECT oid::text, (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint::text AS "startedAt"
    FROM pg_database WHERE datname = current_database()`;
  const system = may.system
    ? (await tx<[{ id: string }]>`SELECT system_identifier::text AS id FROM pg_control_system()`)[0].id
    : '-';
  const timeline = may.timeline
    ? (
        await tx<[{ id: number }]>`
          SELECT ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int AS id`
      )[0].id
    : null;
  return { identity: [system, server.oid, timeline ?? '-', server.startedAt].join('/'), timeline };
}

/**
 * With the timeline in it as it is when a row is written: from the first transaction of a promoted standby on, positions are
 * above those of its primary, before any process has noticed.
 */
async function setGeneration(tx: Connection, generation: number, timeline: number | null): Promise<void> {
  const expression =
    timeline === null
      ? `${generation}::bigint`
      : `${generation - timeline} + ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint`;
  await tx.unsafe(`CREATE OR REPLACE FUNCTION ringback.feed_generation() RETURNS bigint LANGUAGE sql VOLATILE
    BEGIN ATOMIC SELECT ${expression}; END`);
}

export interface KnownEpoch {
  /** Of the latest epoch. */
  readonly token: string;
  /** Whether the token asked about is that of this epoch or of one before. */
  readonly isKnown: boolean;
}

/** @param token as a cursor carries it; empty for what was handed out before there were epochs */
export async function findEpoch({ sql }: Database, token: string): Promise<KnownEpoch> {
  const [epoch] = await sql<KnownEpoch[]>`
    SELECT token, ${token} = '' OR EXISTS (SELECT FROM ringback.database_epochs WHERE token = ${token}) AS "isKnown"
    FROM ringback.database_epochs ORDER BY number DESC LIMIT 1`;
  return epoch ?? { token: '', isKnown: token === '' };
}
