import type { Clock } from '#domain/clock.ts';
import { mintSecret } from '#domain/endpoint.ts';
import { type AccountId, type JobId, newId } from '#domain/ids.ts';
import { databaseUnavailable, outcomeUnknown } from '#domain/outage.ts';
import type { Result } from '#domain/problem.ts';
import type { SecretKey } from '#domain/secret-box.ts';
import { type Database, isOutcomeUnknown } from '#store/database.ts';
import { ensureEndpoint } from '#store/endpoints.ts';
import { GroupCommit, MEASURED_GROUPS } from '#store/group-commit.ts';
import { isTransient } from '#store/transient.ts';
import { insertJobs, type NewJob, type StorableJob } from '#store/jobs.ts';
import { storeJobs } from '#store/store-jobs.ts';
import type { Admission } from './admission.ts';
import type { CallbackTarget, CallbackTargets } from './callback-targets.ts';
import { Idempotency, type IdempotentRequest } from './idempotency.ts';
import type { JobTypes } from '../type/job-types.ts';
import { type Submission, toNewJob, toStorableJob, viewSubmitted } from './submission.ts';

/** What a client is told of an accepted submission. */
export interface Accepted {
  readonly id: JobId;
  readonly type: string;
  /** The job as JSON: the body of the 202, the same each time when it is told again. */
  readonly body: string;
  /** True when an earlier submission under the same idempotency key is told again. */
  readonly replayed: boolean;
}

export interface SubmitterDeps {
  readonly clock: Clock;
  readonly db: Database;
  readonly types: JobTypes;
  readonly targets: CallbackTargets;
  readonly admission: Pick<Admission, 'admit'>;
  readonly keys: readonly SecretKey[];
  readonly publicUrl: string;
  /** Called after the commit of a job that is ready in that pool. */
  readonly announceRuns: (pool: string) => void;
  /** Called after the commit of a job that somebody is to be told of. */
  readonly announceDeliveries: () => void;
  /** Called after the commit of a job that is due at that time (Unix milliseconds). */
  readonly dueAt: (at: number) => void;
  /** Called after the commit of a job, for who follows the events of its account. */
  readonly eventsWritten: (accountIds: readonly AccountId[]) => void;
}

/** A job with its answer, rendered before it is stored: what idempotency keeps must be there with the job. */
interface Prepared {
  readonly job: StorableJob;
  readonly body: string;
}

/** A member of a group that stores nothing. */
const PROBE = Symbol('probe');

/** Thrown to roll back: an endpoint made here would keep a secret that nobody is shown. */
class KeyTaken extends Error {}

export class Submitter {
  readonly #deps: SubmitterDeps;
  readonly #idempotency: Idempotency;
  readonly #group: GroupCommit<StorableJob | typeof PROBE>;

  constructor(deps: SubmitterDeps) {
    this.#deps = deps;
    this.#idempotency = new Idempotency(deps);
    this.#group = new GroupCommit<StorableJob | typeof PROBE>({
      ...MEASURED_GROUPS,
      commit: async (members) => {
        const jobs = members.filter((member) => member !== PROBE);
        const { ids, isToTell } = await storeJobs(deps.db, jobs);
        if (isToTell) deps.announceDeliveries();
        return ids.size === jobs.length ? undefined : new Set(jobs.filter(({ id }) => !ids.has(id)));
      },
    });
  }

  /** Goes the way that a submission goes, with nothing. Rejects, or does not settle, when submissions would not be accepted. */
  async probe(): Promise<void> {
    await this.#group.add(PROBE);
  }

  /**
   * Stores and queues a job in one transaction. What it resolves with `ok` cannot be lost any more. A database that fails is a
   * refusal: `database_unavailable` when nothing was stored, `outcome_unknown` when nobody knows.
   */
  async submit(
    accountId: AccountId,
    submission: Submission,
    request: IdempotentRequest | undefined,
  ): Promise<Result<Accepted>> {
    const store = () => this.#submitOnce(accountId, submission, request);
    try {
      return await (request === undefined ? store() : this.#idempotency.once(accountId, request, store));
    } catch (error) {
      // Where something may have been stored, `#submitOnce` has said so.
      if (isTransient(error)) return databaseUnavailable();
      throw error;
    }
  }

  async #submitOnce(
    accountId: AccountId,
    submission: Submission,
    request: IdempotentRequest | undefined,
  ): Promise<Result<Accepted>> {
    const { types, targets, admission } = this.#deps;
    const made = await toNewJob(types, accountId, submission, { now: this.#deps.clock.now() });
    if (!made.ok) return made;
    const refusal = await admission.admit(accountId);
    if (refusal !== undefined) return refusal;
    const target = submission.callback && (await targets.find(accountId, submission.callback));
    if (target?.ok === false) return target;
    try {
      return await this.#storeFor(target?.value, made.value, request);
    } catch (error) {
      if (isOutcomeUnknown(error)) return outcomeUnknown(made.value.id);
      throw error;
    }
  }

  #storeFor(
    target: CallbackTarget | undefined,
    job: NewJob,
    request: IdempotentRequest | undefined,
  ): Promise<Result<Accepted>> {
    if (target === undefined) return this.#store(job, request);
    const { url, endpointId } = target;
    if (endpointId === undefined) return this.#storeWithNewEndpoint(job, url, request);
    return this.#store({ ...job, callbackUrl: url, callbackEndpointId: endpointId }, request);
  }

  async #store(job: NewJob, request: IdempotentRequest | undefined): Promise<Result<Accepted>> {
    const prepared = this.#prepare(job, undefined, request);
    const stored = await this.#group.add(prepared.job);
    return stored ? this.#accepted(prepared) : this.#idempotency.replay(job.accountId, request);
  }

  /**
   * The first job for a URL makes the endpoint in its own transaction, alone: endpoint, secret and job are there
   * together or not at all, so that the secret, shown once, is not lost with a job that was not stored. Nor with one whose
   * key was taken meanwhile: its client is told the other job, so what was made for it is rolled back.
   */
  async #storeWithNewEndpoint(
    job: NewJob,
    url: string,
    request: IdempotentRequest | undefined,
  ): Promise<Result<Accepted>> {
    const { db, keys } = this.#deps;
    const { accountId, createdAt: now } = job;
    const id = newId('ep', now.getTime());
    const secret = mintSecret(keys, accountId, id, now);
    const storing = db.transaction(async (tx) => {
      const endpoint = await ensureEndpoint(tx, {
        accountId,
        id,
        url,
        isRegistered: false,
        secret: secret.sealed,
        now,
      });
      const withEndpoint = { ...job, callbackUrl: url, callbackEndpointId: endpoint.id };
      const ready = this.#prepare(withEndpoint, endpoint.created ? secret.text : undefined, request);
      const { ids, isToTell } = await insertJobs(tx, [ready.job]);
      if (ids.size === 0) throw new KeyTaken();
      return { ...ready, isToTell };
    });
    const stored = await storing.catch((error: unknown) => {
      if (error instanceof KeyTaken) return undefined;
      throw error;
    });
    if (stored === undefined) return this.#idempotency.replay(accountId, request);
    if (stored.isToTell) this.#deps.announceDeliveries();
    return this.#accepted(stored);
  }

  /** Adds the answer, and what idempotency keeps of it. */
  #prepare(job: NewJob, signingSecret: string | undefined, request: IdempotentRequest | undefined): Prepared {
    const view = viewSubmitted(job, this.#deps.publicUrl);
    const body = signingSecret === undefined ? view : withSecret(view, signingSecret);
    const submitted = toStorableJob(job, view);
    if (request === undefined) return { job: submitted, body };
    const idempotency = this.#idempotency.record(job, request, { body, holdsSecret: signingSecret !== undefined });
    return { job: { ...submitted, idempotency }, body };
  }

  #accepted({ job, body }: Prepared): Result<Accepted> {
    if (job.runAt === null) this.#deps.announceRuns(job.pool);
    else this.#deps.dueAt(job.runAt.getTime());
    this.#deps.eventsWritten([job.accountId]);
    return { ok: true, value: { id: job.id, type: job.type, body, replayed: false } };
  }
}

/** The job as the submission that made its endpoint is told. */
function withSecret(view: string, signingSecret: string): string {
  const job = JSON.parse(view) as { callback?: object };
  return JSON.stringify({ ...job, callback: { ...job.callback, signing_secret: signingSecret } });
}
