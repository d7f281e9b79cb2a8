import {
  type AccountId,
  type DeliveryId,
  type EndpointId,
  type EventId,
  type JobId,
  newId,
  type RunId,
} from '#domain/ids.ts';
import type { MadeEndpoint } from './fixtures.ts';
import type { ReleasedDatabase } from './released.ts';

/** Jobs and deliveries as version 0.1.0 wrote them. */

const WORKER = newId('wrk', 0);
const ERRORS = {
  failed: '{"code":"handler_error","message":"Error: no"}',
  lost: '{"code":"worker_lost","message":"The worker stopped responding and its lease ran out."}',
};

export interface ReleasedJob {
  readonly accountId: AccountId;
  readonly endpoint?: MadeEndpoint;
  readonly type?: string;
  /** JSON. */
  readonly input?: string;
  /** Left out: queued, and never run. */
  readonly status?: 'in_progress' | 'succeeded' | 'failed';
  /** How the runs ended that are over. */
  readonly ended?: ReadonlyArray<'succeeded' | 'failed' | 'lost' | 'released'>;
  /** Whether a run is under way besides. */
  readonly running?: boolean;
  /** When the next run is due, of a job that waits for one. */
  readonly nextRunAt?: Date;
  /** JSON, of one that succeeded. */
  readonly output?: string;
  readonly createdAt?: Date;
}

export interface MadeJob {
  readonly accountId: AccountId;
  readonly id: JobId;
  readonly runId: RunId | null;
}

export async function releasedJob(database: ReleasedDatabase, given: ReleasedJob): Promise<MadeJob> {
  const { accountId, status = 'queued', ended = [], running = false } = given;
  const { createdAt = new Date(Date.now() - 3_600_000) } = given;
  const isOver = status === 'succeeded' || status === 'failed';
  const at = new Date(createdAt.getTime() + 1000);
  const job = {
    ...given,
    id: newId('job', createdAt.getTime()),
    runId: running ? newId('run', at.getTime()) : null,
    runs: ended.length + Number(running),
    status,
    ended,
    isOver,
    createdAt,
    at,
  };
  await insertRow(database, job);
  await insertRecord(database, job);
  return { accountId, id: job.id, runId: job.runId };
}

type Job = Omit<ReleasedJob, 'status'> &
  MadeJob &
  Required<Pick<ReleasedJob, 'ended' | 'createdAt'>> & {
    readonly status: string;
    readonly runs: number;
    readonly isOver: boolean;
    readonly at: Date;
  };

async function insertRow({ sql }: ReleasedDatabase, job: Job): Promise<void> {
  const { accountId, id, type = 'ringback.echo', input = '{"n":1}', status, endpoint, runs, ended, at } = job;
  const events = ['job.succeeded', 'job.failed', 'job.canceled', 'job.expired'];
  const failures = ended.filter((how) => how === 'failed' || how === 'lost').length;
  const ifRun = <T>(value: T) => (runs > 0 ? value : null);
  await sql`
    INSERT INTO ringback.jobs (
      account_id, id, type, status, input, output, error, progress, metadata, callback_endpoint_id, callback_url,
      callback_events, run_count, failure_count, sequence, created_at, updated_at, started_at, run_id, run_started_at,
      worker_id, next_run_at, finished_at)
    VALUES (
      ${accountId}, ${id}, ${type}, ${status}, ${input}::text::json,
      ${status === 'succeeded' ? (job.output ?? '{"done":true}') : null}::text::json,
      ${status === 'failed' ? ERRORS.failed : null}::text::json, ${ifRun('{"percent":50}')}::text::json,
      '{"order":"4711"}', ${endpoint?.id ?? null}, ${endpoint?.url ?? null}, ${endpoint ? events : null},
      ${runs}, ${failures}, ${1 + Number(runs > 0) + Number(job.isOver)}, ${job.createdAt}, ${at}, ${ifRun(at)},
      ${job.runId}, ${ifRun(at)}, ${ifRun(WORKER)}, ${job.nextRunAt ?? null}, ${job.isOver ? at : null})`;
}

/** The runs that are over, and the events. */
async function insertRecord({ sql }: ReleasedDatabase, job: Job): Promise<void> {
  const { accountId, id, status, runs, ended, isOver, createdAt, at } = job;
  for (const [index, how] of ended.entries()) {
    const error = how === 'failed' || how === 'lost' ? ERRORS[how] : null;
    await sql`
      INSERT INTO ringback.job_runs (account_id, id, job_id, number, status, worker_id, error, started_at, finished_at)
      VALUES (${accountId}, ${newId('run', at.getTime())}, ${id}, ${index + 1}, ${how}, ${WORKER}, ${error}::text::json,
        ${at}, ${at})`;
  }
  const types = ['job.queued', ...(runs > 0 ? ['job.started'] : []), ...(isOver ? [`job.${status}`] : [])];
  for (const [index, type] of types.entries()) {
    const moment = index === 0 ? createdAt : at;
    const body = index === 2 && job.endpoint !== undefined ? Buffer.from(`{"type":"${type}","old":true}`) : null;
    await sql`
      INSERT INTO ringback.events (account_id, id, type, job_id, sequence, body, created_at)
      VALUES (${accountId}, ${newId('evt', moment.getTime())}, ${type}, ${id}, ${index + 1}, ${body}, ${moment})`;
  }
}

export interface ReleasedDelivery {
  readonly status: 'pending' | 'delivered' | 'exhausted';
  /** Attempts that were made; all but the last of a delivered one were rejected. */
  readonly attempts: number;
  readonly nextAttemptAt?: Date;
}

/** The delivery of the last event of a job that is over and has an endpoint. */
export async function releasedDelivery(
  database: ReleasedDatabase,
  job: MadeJob,
  { status, attempts, nextAttemptAt }: ReleasedDelivery,
): Promise<void> {
  const { sql } = database;
  const { accountId, id: jobId } = job;
  const now = new Date();
  const id = newId('dlv', now.getTime());
  const [event] = await sql<[Pick<DeliveryKey, 'eventId' | 'endpointId'>]>`
    INSERT INTO ringback.deliveries (
      account_id, id, event_id, event_type, job_id, endpoint_id, status, attempt_count, next_attempt_at, created_at,
      updated_at, finished_at)
    SELECT job.account_id, ${id}, event.id, event.type, job.id, callback_endpoint_id, ${status}, ${attempts},
      ${status === 'pending' ? (nextAttemptAt ?? now) : null}, ${now}, ${now}, ${status === 'pending' ? null : now}
    FROM ringback.jobs AS job JOIN ringback.events AS event ON event.job_id = job.id AND event.sequence = 3
    WHERE job.account_id = ${accountId} AND job.id = ${jobId}
    RETURNING event_id AS "eventId", endpoint_id AS "endpointId"`;
  const key = { accountId, deliveryId: id, ...event };
  for (let number = 1; number <= attempts; number++) {
    const isLast = status === 'delivered' && number === attempts;
    await insertAttempt(database, { ...key, jobId }, number, isLast ? 'delivered' : 'rejected');
  }
}

interface DeliveryKey {
  readonly accountId: AccountId;
  readonly deliveryId: DeliveryId;
  readonly eventId: EventId;
  readonly endpointId: EndpointId;
}

async function insertAttempt(
  { sql }: ReleasedDatabase,
  { accountId, deliveryId, eventId, endpointId, jobId }: DeliveryKey & { jobId: JobId },
  number: number,
  outcome: 'delivered' | 'rejected',
): Promise<void> {
  const now = new Date();
  await sql`
    INSERT INTO ringback.delivery_attempts (
      account_id, id, delivery_id, event_id, job_id, endpoint_id, number, trigger, method, url, signed_by, outcome,
      error_code, response_status, started_at, finished_at, worker_id)
    VALUES (${accountId}, ${newId('att', now.getTime())}, ${deliveryId}, ${eventId}, ${jobId}, ${endpointId}, ${number},
      'scheduled', 'POST', 'http://127.0.0.1/', '{}', ${outcome}, ${outcome === 'rejected' ? 'status_500' : null},
      ${outcome === 'rejected' ? 500 : 200}, ${now}, ${now}, ${WORKER})`;
}
