import type { Clock } from '#domain/clock.ts';
import type { AccountId, JobId } from '#domain/ids.ts';
import { isFinal } from '#domain/job.ts';
import { type Result, refuse } from '#domain/problem.ts';
import type { Database } from '#store/database.ts';
import { findJobs, listRuns, type RunRecord } from '#store/job-reads.ts';
import type { JobRecord } from '#store/jobs.ts';
import type { JobRef } from '#store/run-queue.ts';
import { Batches } from '../run/batches.ts';
import { type JobResult, openResult } from './job-results.ts';
import type { PollEstimate } from '../wait/poll-estimate.ts';
import { refuseMissing } from './missing-job.ts';

export type { RunRecord };
export type CurrentRun = Pick<RunRecord, 'id' | 'number' | 'startedAt' | 'workerId'>;

interface JobQueriesDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly polls: Pick<PollEstimate, 'after'>;
}

/** What clients may ask about their jobs. Another account's job is not there. */
export class JobQueries {
  readonly #db: Database;
  readonly #clock: Clock;
  readonly #polls: Pick<PollEstimate, 'after'>;
  /** A job read with others costs a fiftieth of one read alone: those who poll come by the thousand. */
  readonly #reads: Batches<JobRef, JobRecord | undefined>;

  constructor({ db, clock, polls }: JobQueriesDeps) {
    this.#db = db;
    this.#clock = clock;
    this.#polls = polls;
    this.#reads = new Batches({ answer: (refs) => readJobs(db, refs), maxQuestions: 500, maxBatches: 2 });
  }

  async find(accountId: AccountId, id: JobId): Promise<Result<JobRecord>> {
    const job = await this.#reads.add({ accountId, jobId: id });
    return job === undefined ? refuseMissing(this.#db, accountId, id) : { ok: true, value: job };
  }

  /** The result itself, still to be read. Refuses while there is none yet, and when there will be none. */
  async result(accountId: AccountId, id: JobId): Promise<Result<JobResult>> {
    const job = await this.find(accountId, id);
    if (!job.ok) return job;
    const { status, error } = job.value;
    if (status === 'succeeded') {
      const result = await openResult(this.#db, job.value);
      if (result !== undefined) return { ok: true, value: result };
      // It was removed since it was read.
      const gone = await this.find(accountId, id);
      return gone.ok ? refuse('job_not_found', `There is no job ${id} any more.`) : gone;
    }
    if (isFinal(status)) {
      return refuse('no_result', `The job ${status}: ${error?.message ?? ''}`, {
        extra: { job_status: status, job_error: error },
      });
    }
    const retryAfter = this.#polls.after(job.value, this.#clock.now());
    return refuse('job_not_finished', `The job is ${status}. Ask again in ${retryAfter} s.`, {
      retryAfter,
      extra: { job_status: status },
    });
  }

  /** The runs that have ended, then the one under way. */
  async runs(
    accountId: AccountId,
    id: JobId,
  ): Promise<Result<{ ended: RunRecord[]; current: CurrentRun | undefined }>> {
    const job = await this.find(accountId, id);
    if (!job.ok) return job;
    const { runId, runStartedAt, workerId, runCount } = job.value;
    const current =
      runId === null || runStartedAt === null || workerId === null
        ? undefined
        : { id: runId, number: runCount, startedAt: runStartedAt, workerId };
    // A run that ended since the job was read is now in both: the record wins.
    const ended = await listRuns(this.#db, accountId, id);
    const isOver = ended.some((run) => run.id === runId);
    return { ok: true, value: { ended, current: isOver ? undefined : current } };
  }
}

/** Each in its own account, and in their order. */
async function readJobs(db: Database, refs: readonly JobRef[]): Promise<Array<JobRecord | undefined>> {
  const jobs = new Map((await findJobs(db, refs)).map((job) => [`${job.accountId} ${job.id}`, job]));
  return refs.map(({ accountId, jobId }) => jobs.get(`${accountId} ${jobId}`));
}
