import { randomBytes } from 'node:crypto';
import { API_KEY_SCOPES, hashApiKey, newApiKey } from '#domain/api-key.ts';
import type { AttemptResult } from '#domain/attempt.ts';
import { mintSecret } from '#domain/endpoint.ts';
import { type AccountId, type EndpointId, type JobId, newId, type RunId, timeOf, type WorkerId } from '#domain/ids.ts';
import { FINAL_JOB_EVENT_TYPES, type FinalJobEventType } from '#domain/job.ts';
import type { Result } from '#domain/problem.ts';
import { parseSecretKey, type SecretKey } from '#domain/secret-box.ts';
import { ensureApiKey } from '#store/accounts.ts';
import { type ClaimedJob, claimRuns, type RunClaim } from '#store/claim-runs.ts';
import type { Database, Transaction } from '#store/database.ts';
import { type ClaimedDelivery, claimDeliveries } from '#store/claim-deliveries.ts';
import type { Settlement } from '#store/deliveries.ts';
import { ensureEndpoint } from '#store/endpoints.ts';
import { insertJobs, type StorableJob } from '#store/jobs.ts';
import { endRuns, type RunEnd } from '#store/end-runs.ts';
import type { EventBody } from '#store/tell-runs.ts';
import { promoteDue } from '#store/run-queue.ts';

/** Starting states, made by the functions that make them in production. */

/** As `RINGBACK_SECRET_KEY` has it: one for all services of a test file, for those that share a database must agree. */
export const SECRET_KEY = randomBytes(32).toString('base64');
export const SECRET_KEYS: readonly SecretKey[] = [parseSecretKey(SECRET_KEY)!];

export const WORKER: WorkerId = newId('wrk', Date.now());

/** Runs `work` in a transaction of its own. */
export function inTransaction<T>(db: Database, work: (tx: Transaction) => Promise<T>): Promise<T> {
  return db.transaction(work);
}

/** What a use case answered, when it did not refuse. */
export function accepted<T>(result: Result<T>): T {
  if (!result.ok) throw new Error(`refused: ${result.code}, ${result.detail}`);
  return result.value;
}

export interface Account {
  readonly accountId: AccountId;
  readonly key: string;
}

/** An account under a name of its own, with one key that may do everything. */
export async function makeAccount(db: Database): Promise<Account> {
  const now = new Date();
  const key = newApiKey();
  const accountId = newId('acc', now.getTime());
  await ensureApiKey(db, {
    accountId,
    accountName: accountId,
    keyId: newId('key', now.getTime()),
    hash: hashApiKey(key),
    lastFour: key.slice(-4),
    scopes: API_KEY_SCOPES,
    now,
  });
  return { accountId, key };
}

export interface MadeEndpoint {
  readonly id: EndpointId;
  readonly url: string;
  /** `whsec_...` */
  readonly secret: string;
}

export async function makeEndpoint(
  db: Database,
  accountId: AccountId,
  url = `https://example.com/${randomBytes(4).toString('hex')}`,
  keys = SECRET_KEYS,
): Promise<MadeEndpoint> {
  const now = new Date();
  const id = newId('ep', now.getTime());
  const secret = mintSecret(keys, accountId, id, now);
  await ensureEndpoint(db.sql, { accountId, id, url, isRegistered: true, secret: secret.sealed, now });
  return { id, url, secret: secret.text };
}

/**
 * A job that has yet to be inserted; without a callback unless `to` says where. It waits in a pool of its own, so that a
 * test can claim this one and no other.
 */
export function newJob(accountId: AccountId, changes: Partial<StorableJob> = {}, to?: MadeEndpoint): StorableJob {
  const createdAt = changes.createdAt ?? new Date();
  const id = newId('job', createdAt.getTime());
  return {
    accountId,
    id,
    eventId: newId('evt', createdAt.getTime()),
    type: 'test.job',
    pool: `only:${id}`,
    inputText: '{"n":1}',
    metadata: {},
    priority: 0,
    timeoutMs: null,
    runTimeoutMs: 60_000,
    retry: null,
    runAt: null,
    expiresAt: null,
    scheduleId: null,
    scheduledFor: null,
    callbackEndpointId: to?.id ?? null,
    callbackUrl: to?.url ?? null,
    callbackEvents: to === undefined ? null : FINAL_JOB_EVENT_TYPES,
    createdAt,
    idempotency: null,
    queuedBody: `{"type":"job.queued","timestamp":"${createdAt.toISOString()}","sequence":1,"data":{"job":{"id":"${id}"}}}`,
    queuedDeliveryId: null,
    ...changes,
  };
}

/** A job in `queued`. */
export async function insertJob(
  db: Database,
  accountId: AccountId,
  changes: Partial<StorableJob> = {},
  to?: MadeEndpoint,
): Promise<StorableJob> {
  const job = newJob(accountId, changes, to);
  await insertJobs(db.sql, [job]);
  return job;
}

/** A claim by a runner, without limits: for one run of the pool unless changed. */
export function runClaim(changes: Partial<RunClaim> & Pick<RunClaim, 'pool'>): RunClaim {
  return {
    limit: 1,
    workerId: WORKER,
    heldBy: 'runner',
    leaseMs: 15_000,
    afterAccount: '',
    now: new Date(),
    poolLimit: null,
    accountLimit: null,
    exclusive: false,
    ...changes,
  };
}

/** Puts the job `in_progress`: it must be ready, and be the one that its account has ready in its pool. */
export async function claimRun(
  db: Database,
  job: { accountId: AccountId; id: JobId },
  changes: Partial<RunClaim> = {},
): Promise<ClaimedJob> {
  const [item] = await db.sql<{ pool: string }[]>`SELECT pool FROM ringback.run_queue WHERE job_id = ${job.id}`;
  const { jobs } = await claimRuns(db, runClaim({ pool: item?.pool ?? '', ...changes }));
  const [claimed] = jobs;
  if (claimed?.id !== job.id) throw new Error(`${job.id} could not be claimed`);
  return claimed;
}

/** As if the job's time had come: what was delayed is ready. */
export async function makeDue(db: Database, job: { id: JobId }): Promise<void> {
  await db.sql`UPDATE ringback.run_queue SET due_at = now() - interval '1 s' WHERE job_id = ${job.id}`;
  await promoteDue(db, new Date(), 1000);
}

/** A success with an event and without a delivery, unless changed. */
export function runEnd(
  job: { accountId: AccountId; id: JobId; runId: RunId | null },
  changes: Partial<RunEnd> = {},
): RunEnd {
  const { jobStatus = 'succeeded', endedAt = changes.event ? new Date(timeOf(changes.event.id)) : new Date() } =
    changes;
  const type = jobStatus === 'in_progress' ? 'job.retrying' : (`job.${jobStatus}` as const);
  return {
    accountId: job.accountId,
    jobId: job.id,
    runId: job.runId,
    runStatus: 'succeeded',
    runError: null,
    jobStatus,
    jobError: null,
    outputText: jobStatus === 'succeeded' ? '{"done":true}' : null,
    result: null,
    progress: null,
    nextRunAt: null,
    // The event is found by the moment in its id.
    endedAt,
    event: { id: newId('evt', endedAt.getTime()), type, body: null },
    delivery: null,
    ...changes,
  };
}

/** A job whose run is under way, with an endpoint that is to be told of its end. */
export async function makeRunning(
  db: Database,
  changes: Partial<StorableJob> = {},
): Promise<{ accountId: AccountId; endpoint: MadeEndpoint; job: ClaimedJob }> {
  const accountId = changes.accountId ?? (await makeAccount(db)).accountId;
  const endpoint = await makeEndpoint(db, accountId);
  return { accountId, endpoint, job: await claimRun(db, await insertJob(db, accountId, changes, endpoint)) };
}

/** How a run ends that was given back: its job is ready at once. */
export const RELEASED = { runStatus: 'released', jobStatus: 'in_progress' } as const satisfies Partial<RunEnd>;

/** The end of a job that no run holds. */
export function waitingEnd(job: { accountId: AccountId; id: JobId }, jobStatus: 'canceled' | 'expired'): RunEnd {
  return runEnd(
    { ...job, runId: null },
    { runStatus: null, jobStatus, jobError: { code: jobStatus, message: 'it was' } },
  );
}

/** What a callback says, short. */
export const bodyOf = (type: string): EventBody => [`{"type":"${type}","sequence":`, '}'];

/** The last event of a job and, with an endpoint, the delivery of it. */
export function finalEvent(
  type: FinalJobEventType,
  to?: MadeEndpoint,
  at = new Date(),
): Pick<RunEnd, 'event' | 'delivery'> {
  const event = { id: newId('evt', at.getTime()), type, body: to === undefined ? null : bodyOf(type) };
  return { event, delivery: to === undefined ? null : { id: newId('dlv', at.getTime()), endpointId: to.id } };
}

export type DueDelivery = Omit<ClaimedDelivery, 'attemptId' | 'attemptCount' | 'scheduleFrom' | 'trigger'> & {
  readonly jobId: JobId;
};

/** A job that succeeded, whose callback is queued and due. */
export async function makeDelivery(db: Database, accountId: AccountId, to: MadeEndpoint): Promise<DueDelivery> {
  const job = await insertJob(db, accountId, {}, to);
  const end = runEnd(await claimRun(db, job), finalEvent('job.succeeded', to));
  await endRuns(db.sql, [end]);
  const { event, delivery } = end;
  return {
    accountId,
    id: delivery!.id,
    eventId: event.id,
    eventType: 'job.succeeded',
    jobId: job.id,
    endpointId: to.id,
    body: Buffer.from(event.body!.join('3')),
  };
}

/** Claims the delivery, which must be the next one of an endpoint that has no attempt under way. */
export async function claimDelivery(
  db: Database,
  due: DueDelivery,
  leaseMs = 15_000,
): Promise<ClaimedDelivery & { readonly jobId: JobId }> {
  // Lanes are looked at after this one: the endpoint's own comes first.
  const afterLane = { accountId: due.accountId, endpointId: due.endpointId.slice(0, -1) };
  const claim = { limit: 1, workerId: WORKER, leaseMs, afterLane, now: new Date(), endpointLimit: 10 };
  const { deliveries } = await claimDeliveries(db.sql, claim);
  if (deliveries[0]?.id !== due.id) throw new Error(`${due.id} could not be claimed`);
  return { ...deliveries[0], jobId: due.jobId };
}

/** A delivery whose attempt is under way. */
export async function makeClaimed(db: Database): Promise<ClaimedDelivery & { readonly jobId: JobId }> {
  const { accountId } = await makeAccount(db);
  return claimDelivery(db, await makeDelivery(db, accountId, await makeEndpoint(db, accountId)));
}

export function attemptResult(changes: Partial<AttemptResult> = {}): AttemptResult {
  const at = new Date();
  return {
    outcome: 'delivered',
    errorCode: null,
    errorDetail: null,
    remoteAddress: '127.0.0.1',
    startedAt: at,
    finishedAt: at,
    timings: { dnsMs: null, connectMs: 0.25, tlsMs: null, firstByteMs: 1.5, totalMs: 2 },
    response: { status: 200, headers: [], bodyPrefix: Buffer.from('ok'), bodyBytes: 2, truncated: false },
    ...changes,
  };
}

/** The attempt under way, which succeeded, unless changed. */
export function settlement(delivery: ClaimedDelivery, changes: Partial<Settlement> = {}): Settlement {
  const { result = attemptResult() } = changes;
  return {
    delivery,
    number: delivery.attemptCount + 1,
    trigger: 'scheduled',
    url: 'https://example.com/',
    requestHeaders: { 'webhook-id': delivery.eventId },
    bodySha256: '00'.repeat(32),
    bodyBytes: delivery.body.length,
    signedBy: [newId('sec', Date.now())],
    result,
    verdict: { status: 'delivered', nextAttemptAt: null },
    keepsPlace: false,
    settledAt: 'finishedAt' in result ? result.finishedAt : new Date(),
    workerId: WORKER,
    ...changes,
  };
}
