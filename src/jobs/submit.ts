import type { Guard } from '#egress/guard.ts';
import { mintSecret } from '#domain/endpoint.ts';
import { type AccountId, type EndpointId, newId, uuidOf } from '#domain/ids.ts';
import { FINAL_JOB_EVENT_TYPES, type FinalJobEventType } from '#domain/job.ts';
import { toStorableJson } from '#domain/json.ts';
import { type Result, refuse } from '#domain/problem.ts';
import type { SecretKey } from '#domain/secret-box.ts';
import type { Queues } from '#queue/queues.ts';
import { type Database, type Transaction, transaction } from '#store/database.ts';
import { ensureEndpoint, findEndpoint } from '#store/endpoints.ts';
import { GroupCommit, MEASURED_GROUPS } from '#store/group-commit.ts';
import { insertJobs, type JobRecord, type NewJob } from '#store/jobs.ts';
import { type JobTypes, validate } from './job-types.ts';

export interface Submission {
  readonly type: string;
  /** Left out: the job type decides whether it can do without. */
  readonly input?: unknown;
  readonly callback?: CallbackRequest | undefined;
  readonly metadata?: Readonly<Record<string, string>> | undefined;
}

export type CallbackRequest = ({ readonly url: string } | { readonly endpoint_id: EndpointId }) & {
  readonly events?: readonly FinalJobEventType[] | undefined;
};

export interface Submitted {
  readonly job: JobRecord;
  /** The endpoint's signing secret, when this submission made the endpoint: shown this once. */
  readonly signingSecret: string | undefined;
}

/** Where a callback goes; an endpoint without an id has yet to be made. */
interface Target {
  readonly url: string;
  readonly endpointId: EndpointId | undefined;
}

const MAX_KNOWN_TARGETS = 10_000;

export class Submitter {
  readonly #db: Database;
  readonly #queues: Queues;
  readonly #types: JobTypes;
  readonly #guard: Guard;
  readonly #keys: readonly SecretKey[];
  readonly #announce: () => void;
  readonly #group: GroupCommit<NewJob>;
  /** Endpoints seen lately, so that a submission costs no look-up: their URL never changes. */
  readonly #targets = new Map<string, Target>();

  constructor(deps: {
    db: Database;
    queues: Queues;
    types: JobTypes;
    guard: Guard;
    keys: readonly SecretKey[];
    announce: () => void;
  }) {
    this.#db = deps.db;
    this.#queues = deps.queues;
    this.#types = deps.types;
    this.#guard = deps.guard;
    this.#keys = deps.keys;
    this.#announce = deps.announce;
    this.#group = new GroupCommit<NewJob>({
      ...MEASURED_GROUPS,
      commit: async (jobs) => {
        await transaction(this.#db, (tx) => this.#insert(tx, jobs));
      },
    });
  }

  /** Stores and queues a job in one transaction. What it resolves with `ok` cannot be lost any more. */
  async submit(accountId: AccountId, submission: Submission): Promise<Result<Submitted>> {
    const type = this.#types.find(submission.type);
    if (!type.ok) return type;
    const checked = await validate(type.value.input, submission.input);
    if (!checked.ok) {
      const faults = checked.faults.map((fault) => ({ ...fault, path: `/input${fault.path}` }));
      return refuse('invalid_input', `The input does not fit ${submission.type}.`, { faults });
    }
    const input = toStorableJson(submission.input);
    if (!input.ok) return refuse('invalid_input', `The input cannot be stored: ${input.reason}.`);
    const now = new Date();
    const job = newJob(accountId, submission, input.text, now);
    if (submission.callback === undefined) return this.#store(job);
    const target = await this.#find(accountId, submission.callback);
    if (!target.ok) return target;
    const { url, endpointId } = target.value;
    if (endpointId === undefined) return this.#storeWithNewEndpoint({ ...job, callbackUrl: url }, url);
    return this.#store({ ...job, callbackUrl: url, callbackEndpointId: endpointId });
  }

  async #store(job: NewJob): Promise<Result<Submitted>> {
    await this.#group.add(job);
    this.#announce();
    return { ok: true, value: { job: recordOf(job), signingSecret: undefined } };
  }

  async #insert(tx: Transaction, jobs: readonly NewJob[]): Promise<void> {
    const items = jobs.map(({ accountId, id }) => ({ id: uuidOf(id), data: { accountId, jobId: id } }));
    // Neither needs the other's answer: both travel in one round trip.
    await Promise.all([insertJobs(tx, jobs), this.#queues.runs.insert(tx, items)]);
  }

  async #find(accountId: AccountId, callback: CallbackRequest): Promise<Result<Target>> {
    const name = 'url' in callback ? callback.url : callback.endpoint_id;
    const known = this.#targets.get(`${accountId} ${name}`);
    if (known !== undefined) return { ok: true, value: known };
    if ('endpoint_id' in callback) {
      const endpoint = await findEndpoint(this.#db, accountId, { id: callback.endpoint_id });
      if (endpoint === undefined) return refuse('endpoint_not_found', `There is no endpoint ${name}.`);
      return { ok: true, value: this.#remember(accountId, name, { endpointId: endpoint.id, url: endpoint.url }) };
    }
    const verdict = await this.#guard.checkUrl(callback.url);
    if (!verdict.ok) {
      const extra = { reason: verdict.reason };
      return refuse('invalid_callback_url', verdict.detail, {
        faults: [{ path: '/callback/url', message: verdict.detail }],
        extra,
      });
    }
    const endpoint = await findEndpoint(this.#db, accountId, { url: verdict.url.href });
    if (endpoint === undefined) return { ok: true, value: { url: verdict.url.href, endpointId: undefined } };
    return { ok: true, value: this.#remember(accountId, name, { endpointId: endpoint.id, url: endpoint.url }) };
  }

  /**
   * The first job for a URL makes the endpoint in its own transaction, alone: endpoint, secret and job are there
   * together or not at all, so that the secret, shown once, is not lost with a job that was not stored.
   */
  async #storeWithNewEndpoint(job: NewJob, url: string): Promise<Result<Submitted>> {
    const { accountId, createdAt: now } = job;
    const id = newId('ep', now.getTime());
    const secret = mintSecret(this.#keys, accountId, id, now);
    const { stored, created } = await transaction(this.#db, async (tx) => {
      const endpoint = await ensureEndpoint(tx, { accountId, id, url, secret: secret.sealed, now });
      const withEndpoint = { ...job, callbackEndpointId: endpoint.id };
      await this.#insert(tx, [withEndpoint]);
      return { stored: withEndpoint, created: endpoint.created };
    });
    this.#announce();
    return { ok: true, value: { job: recordOf(stored), signingSecret: created ? secret.text : undefined } };
  }

  #remember(accountId: AccountId, name: string, target: Target): Target {
    if (this.#targets.size >= MAX_KNOWN_TARGETS) this.#targets.clear();
    this.#targets.set(`${accountId} ${name}`, target);
    return target;
  }
}

function newJob(accountId: AccountId, submission: Submission, inputText: string, now: Date): NewJob {
  const { type, callback, metadata = {} } = submission;
  return {
    accountId,
    id: newId('job', now.getTime()),
    eventId: newId('evt', now.getTime()),
    type,
    inputText,
    metadata,
    callbackEndpointId: null,
    callbackUrl: null,
    callbackEvents: callback === undefined ? null : (callback.events ?? FINAL_JOB_EVENT_TYPES),
    createdAt: now,
  };
}

/** The row that was just written, without reading it back. */
function recordOf({ eventId: _eventId, inputText: _inputText, ...job }: NewJob): JobRecord {
  return {
    ...job,
    status: 'queued',
    output: null,
    error: null,
    progress: null,
    runCount: 0,
    failureCount: 0,
    sequence: 1,
    updatedAt: job.createdAt,
    startedAt: null,
    runId: null,
    runStartedAt: null,
    workerId: null,
    nextRunAt: null,
    finishedAt: null,
  };
}
