import { and, asc, eq, getTableColumns, gt, sql as query } from 'drizzle-orm';
import type { Standing } from '#domain/callback-target.ts';
import type { CallbackPolicy } from '#domain/endpoint-policy.ts';
import type { AccountId, JobId, ScheduleId } from '#domain/ids.ts';
import { toCleanJson } from '#domain/json.ts';
import type { ScheduleError } from '#domain/schedule.ts';
import type { Connection, Database, Transaction } from './database.ts';
import { jobSchedules } from './schema/submissions.ts';

export interface ScheduleRecord extends ListedSchedule {
  /** JSON as it was submitted. */
  readonly inputText: string;
}

/** Without the input: a page of large ones would be larger than anybody wants. */
export type ListedSchedule = Readonly<Omit<typeof jobSchedules.$inferSelect, 'input'>>;

const { input, ...listed } = getTableColumns(jobSchedules);

/** Inserts a schedule, unless its account has one of that name: `job_schedules_name` decides between two at once. */
export async function insertSchedule(sql: Connection, schedule: ScheduleRecord): Promise<boolean> {
  const inserted = await sql`
    INSERT INTO ringback.job_schedules (
      account_id, id, name, cron, time_zone, overlap, misfire, type, input, metadata, callback_endpoint_id, callback_url,
      callback_events, priority, timeout_ms, retry, paused, next_fire_at, overlap_skips, created_at, updated_at)
    SELECT
      "accountId", id, name, cron, "timeZone", overlap, misfire, type, "inputText"::json, metadata,
      "callbackEndpointId", "callbackUrl", "callbackEvents", priority, "timeoutMs", retry, paused, "nextFireAt", 0,
      "createdAt", "updatedAt"
    FROM json_to_record(${JSON.stringify(schedule)}::text::json) AS given (
      "accountId" text, id text, name text, cron text, "timeZone" text, overlap text, misfire text, type text,
      "inputText" text, metadata jsonb, "callbackEndpointId" text, "callbackUrl" text, "callbackEvents" text[], priority smallint,
      "timeoutMs" int, retry json, paused boolean, "nextFireAt" timestamptz, "createdAt" timestamptz,
      "updatedAt" timestamptz)
    ON CONFLICT (account_id, name) DO NOTHING`;
  return inserted.count === 1;
}

export async function findSchedule(
  { orm }: Database,
  accountId: AccountId,
  key: { id: ScheduleId } | { name: string },
): Promise<ScheduleRecord | undefined> {
  const wanted = 'id' in key ? eq(jobSchedules.id, key.id) : eq(jobSchedules.name, key.name);
  const rows = await orm
    .select({ ...listed, inputText: query<string>`${input}::text` })
    .from(jobSchedules)
    .where(and(eq(jobSchedules.accountId, accountId), wanted));
  return rows[0];
}

/** Oldest first; `after` is the last id of the page before. Served by `job_schedules_pkey`. */
export async function listSchedules(
  { orm }: Database,
  accountId: AccountId,
  page: { after: ScheduleId | undefined; limit: number },
): Promise<ListedSchedule[]> {
  const rest = page.after === undefined ? undefined : gt(jobSchedules.id, page.after);
  return orm
    .select(listed)
    .from(jobSchedules)
    .where(and(eq(jobSchedules.accountId, accountId), rest))
    .orderBy(asc(jobSchedules.id))
    .limit(page.limit);
}

/**
 * Locks a schedule that is still what it was when it was read: no client has changed it, and it has not fired. Otherwise
 * false: it has to be read again, or two changes would undo each other, or a time would fire twice.
 */
export async function lockSchedule(tx: Transaction, read: ScheduleRecord): Promise<boolean> {
  const locked = await tx`
    SELECT FROM ringback.job_schedules
    WHERE account_id = ${read.accountId} AND id = ${read.id} AND updated_at = ${read.updatedAt}
      AND next_fire_at IS NOT DISTINCT FROM ${read.nextFireAt}::timestamptz
    FOR UPDATE`;
  return locked.count === 1;
}

/** Writes what a client may change; the row must be locked. */
export async function updateSchedule(tx: Transaction, schedule: ScheduleRecord): Promise<void> {
  await tx`
    UPDATE ringback.job_schedules AS schedule SET
      cron = given.cron, time_zone = "timeZone", overlap = given.overlap, misfire = given.misfire,
      input = given."inputText"::json, metadata = given.metadata, callback_endpoint_id = "callbackEndpointId",
      callback_url = "callbackUrl", callback_events = "callbackEvents", priority = given.priority,
      timeout_ms = "timeoutMs", retry = given.retry, paused = given.paused, next_fire_at = "nextFireAt",
      last_error = "lastError", updated_at = "updatedAt"
    FROM json_to_record(${JSON.stringify(schedule)}::text::json) AS given (
      "accountId" text, id text, cron text, "timeZone" text, overlap text, misfire text, "inputText" text, metadata jsonb,
      "callbackEndpointId" text, "callbackUrl" text, "callbackEvents" text[], priority smallint, "timeoutMs" int,
      retry json, paused boolean, "nextFireAt" timestamptz, "lastError" json, "updatedAt" timestamptz)
    WHERE schedule.account_id = "accountId" AND schedule.id = given.id`;
}

/** False when it is not there. Its jobs stay. */
export async function deleteSchedule({ sql }: Database, accountId: AccountId, id: ScheduleId): Promise<boolean> {
  const deleted = await sql`DELETE FROM ringback.job_schedules WHERE account_id = ${accountId} AND id = ${id}`;
  return deleted.count === 1;
}

/** Notes a job that was submitted by hand. False when the schedule is gone. */
export async function noteTrigger(
  tx: Transaction,
  trigger: { accountId: AccountId; id: ScheduleId; jobId: JobId; now: Date },
): Promise<boolean> {
  const noted = await tx`
    UPDATE ringback.job_schedules SET last_fire_at = ${trigger.now}, last_job_id = ${trigger.jobId}
    WHERE account_id = ${trigger.accountId} AND id = ${trigger.id}`;
  return noted.count === 1;
}

/** What a job of a schedule is made of. */
export type ScheduledWork = Pick<
  ScheduleRecord,
  | 'accountId'
  | 'id'
  | 'type'
  | 'inputText'
  | 'metadata'
  | 'callbackEndpointId'
  | 'callbackUrl'
  | 'callbackEvents'
  | 'priority'
  | 'timeoutMs'
  | 'retry'
>;

export interface DueSchedule
  extends ScheduledWork, Pick<ScheduleRecord, 'cron' | 'timeZone' | 'overlap' | 'misfire' | 'name'> {
  readonly nextFireAt: Date;
  /** True while a job of it has not ended. */
  readonly hasUnended: boolean;
  readonly callbackPolicy: CallbackPolicy;
  /** What its jobs call back, as it is now; null without one, and when it is deleted. */
  readonly callbackEndpoint: Standing | null;
}

export interface ScheduleRef {
  readonly accountId: AccountId;
  readonly id: ScheduleId;
}

/** What a process cannot fire, and passes over. */
export interface Unfireable {
  readonly types: readonly string[];
  readonly timeZones: readonly string[];
  readonly crons: readonly string[];
  readonly ids: readonly ScheduleId[];
}

const isFireable = (sql: Connection, { types, timeZones, crons, ids }: Unfireable) => sql`
  type <> ALL (${[...types]}::text[]) AND time_zone <> ALL (${[...timeZones]}::text[])
    AND cron <> ALL (${[...crons]}::text[]) AND id <> ALL (${[...ids]}::text[])`;

/** Served by `job_schedules_due`. */
export async function findDueSchedules(
  { sql }: Database,
  { now, limit, except }: { now: Date; limit: number; except: Unfireable },
): Promise<ScheduleRef[]> {
  return sql<ScheduleRef[]>`
    SELECT account_id AS "accountId", id FROM ringback.job_schedules
    WHERE next_fire_at <= ${now} AND ${isFireable(sql, except)}
    ORDER BY next_fire_at LIMIT ${limit}`;
}

export type OverdueSchedule = Pick<DueSchedule, 'accountId' | 'id' | 'type' | 'cron' | 'timeZone' | 'nextFireAt'>;

/** Schedules that have been due since before then, and of which that is not on record. Served by `job_schedules_due`. */
export async function findOverdueSchedules(
  { sql }: Database,
  { before, among, limit }: { before: Date; among: Unfireable; limit: number },
): Promise<OverdueSchedule[]> {
  return sql<OverdueSchedule[]>`
    SELECT account_id AS "accountId", id, type, cron, time_zone AS "timeZone", next_fire_at AS "nextFireAt"
    FROM ringback.job_schedules
    WHERE next_fire_at < ${before} AND NOT (${isFireable(sql, { ...among, ids: [] })})
      AND (last_error ->> 'scheduled_for')::timestamptz IS DISTINCT FROM next_fire_at
    ORDER BY next_fire_at LIMIT ${limit}`;
}

/** False when it has fired or been changed meanwhile, or another process was first. */
export async function noteOverdue(
  { sql }: Database,
  schedule: OverdueSchedule,
  error: ScheduleError,
): Promise<boolean> {
  const noted = await sql`
    UPDATE ringback.job_schedules SET last_error = ${toCleanJson(error)}::text::json
    WHERE account_id = ${schedule.accountId} AND id = ${schedule.id} AND next_fire_at = ${schedule.nextFireAt}
      AND (last_error ->> 'scheduled_for')::timestamptz IS DISTINCT FROM next_fire_at`;
  return noted.count === 1;
}

export type EndedSchedule = Pick<ScheduleRecord, 'accountId' | 'id' | 'cron' | 'timeZone'>;

/** Schedules without a next time that nobody has paused. Reads the whole table: there are few schedules. */
export async function findEndedSchedules({ sql }: Database, limit: number): Promise<EndedSchedule[]> {
  return sql<EndedSchedule[]>`
    SELECT account_id AS "accountId", id, cron, time_zone AS "timeZone" FROM ringback.job_schedules
    WHERE next_fire_at IS NULL AND NOT paused LIMIT ${limit}`;
}

/** False when a client has changed it meanwhile. */
export async function reviveSchedule({ sql }: Database, schedule: EndedSchedule, nextFireAt: Date): Promise<boolean> {
  const revived = await sql`
    UPDATE ringback.job_schedules SET next_fire_at = ${nextFireAt}
    WHERE account_id = ${schedule.accountId} AND id = ${schedule.id} AND next_fire_at IS NULL AND NOT paused
      AND cron = ${schedule.cron} AND time_zone = ${schedule.timeZone}`;
  return revived.count === 1;
}

/**
 * Takes schedules whose time has come, for this transaction: another keeper passes over them, and finds them moved on when
 * it comes back. Served by `job_schedules_due`; `run_queue_schedule` tells of jobs that have not ended.
 */
export async function lockDueSchedules(
  tx: Transaction,
  { now, limit, only, except }: { now: Date; limit: number; only?: ScheduleRef | undefined; except: Unfireable },
): Promise<DueSchedule[]> {
  return tx<DueSchedule[]>`
    SELECT
      account_id AS "accountId", id, name, cron, time_zone AS "timeZone", overlap, misfire, type, input::text AS "inputText",
      metadata, callback_endpoint_id AS "callbackEndpointId", callback_url AS "callbackUrl", callback_events AS "callbackEvents",
      priority, timeout_ms AS "timeoutMs", retry, next_fire_at AS "nextFireAt",
      EXISTS (SELECT FROM ringback.run_queue AS item
        WHERE item.account_id = schedule.account_id AND item.schedule_id = schedule.id) AS "hasUnended",
      (SELECT callback_policy FROM ringback.accounts AS account
        WHERE account.account_id = schedule.account_id) AS "callbackPolicy",
      (SELECT json_build_object('id', endpoint.id, 'isRegistered', is_registered, 'status', status)
        FROM ringback.endpoints AS endpoint
        WHERE endpoint.account_id = schedule.account_id AND endpoint.id = schedule.callback_endpoint_id
          AND num_nonnulls(deleted_at) = 0) AS "callbackEndpoint" -- BY_KEY
    FROM ringback.job_schedules AS schedule
    WHERE next_fire_at <= ${now} AND ${isFireable(tx, except)}
      AND (${only === undefined} OR (account_id = ${only?.accountId ?? ''} AND id = ${only?.id ?? ''}))
    ORDER BY next_fire_at LIMIT ${limit}
    FOR UPDATE SKIP LOCKED`;
}

/** How a schedule stands after its time: on record together with the jobs. */
export interface ScheduleAdvance extends ScheduleRef {
  readonly nextFireAt: Date | null;
  /** The last job that was submitted now; null when none was. */
  readonly lastJobId: JobId | null;
  readonly overlapSkips: number;
  /** Null with a job; without one the error before stays, unless there is a new one. */
  readonly lastError: ScheduleError | null;
}

/** Moves schedules on to their next time; they must be locked. */
export async function advanceSchedules(
  tx: Transaction,
  advances: readonly ScheduleAdvance[],
  now: Date,
): Promise<void> {
  await tx`
    UPDATE ringback.job_schedules AS schedule SET
      next_fire_at = r."nextFireAt",
      last_fire_at = CASE WHEN r."lastJobId" IS NULL THEN last_fire_at ELSE ${now} END,
      last_job_id = coalesce(r."lastJobId", last_job_id),
      overlap_skips = overlap_skips + r."overlapSkips",
      last_error = CASE WHEN r."lastJobId" IS NULL THEN coalesce(r."lastError", last_error) END
    FROM json_to_recordset(${toCleanJson(advances)}::text::json) AS r (
      "accountId" text, id text, "nextFireAt" timestamptz, "lastJobId" text, "overlapSkips" int, "lastError" json)
    WHERE schedule.account_id = r."accountId" AND schedule.id = r.id AND r.id LIKE 'sch\\_%' -- FEW_ROWS: see database.ts
  `;
}

export interface ComingSchedule extends ScheduleRef, Pick<ScheduleRecord, 'cron' | 'timeZone'> {
  readonly nextFireAt: Date;
}

/** Schedules whose time has yet to come, in the order of `job_schedules_pkey`; `after` is the last of the page before. */
export async function listComingSchedules(
  { sql }: Database,
  { now, after, limit }: { now: Date; after: ScheduleRef | undefined; limit: number },
): Promise<ComingSchedule[]> {
  return sql<ComingSchedule[]>`
    SELECT account_id AS "accountId", id, cron, time_zone AS "timeZone", next_fire_at AS "nextFireAt"
    FROM ringback.job_schedules
    WHERE (account_id, id) > (${after?.accountId ?? ''}, ${after?.id ?? ''}) AND next_fire_at > ${now}
    ORDER BY account_id, id LIMIT ${limit}`;
}

/** Moves a schedule's next time, unless it has moved meanwhile. */
export async function moveNextFire({ sql }: Database, schedule: ComingSchedule, to: Date): Promise<boolean> {
  const moved = await sql`
    UPDATE ringback.job_schedules SET next_fire_at = ${to}
    WHERE account_id = ${schedule.accountId} AND id = ${schedule.id} AND next_fire_at = ${schedule.nextFireAt}`;
  return moved.count === 1;
}
