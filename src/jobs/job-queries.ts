import type { AccountId, JobId } from '#domain/ids.ts';
import { isFinal, pollAfterSeconds } from '#domain/job.ts';
import { type Result, refuse } from '#domain/problem.ts';
import type { Database } from '#store/database.ts';
import { findJob, listJobs, listRuns, type RunRecord } from '#store/job-reads.ts';
import type { JobRecord } from '#store/jobs.ts';

/** What clients may ask about their jobs. Another account's job is not there. */
export class JobQueries {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async find(accountId: AccountId, id: JobId): Promise<Result<JobRecord>> {
    const job = await findJob(this.#db, accountId, id);
    return job === undefined ? refuse('job_not_found', `There is no job ${id}.`) : { ok: true, value: job };
  }

  list(accountId: AccountId, page: { before: JobId | undefined; limit: number }): Promise<JobRecord[]> {
    return listJobs(this.#db, accountId, page);
  }

  /** The output itself. Refuses while there is none yet, and when there will be none. */
  async result(accountId: AccountId, id: JobId): Promise<Result<unknown>> {
    const job = await this.find(accountId, id);
    if (!job.ok) return job;
    const { status, output, error, createdAt } = job.value;
    if (status === 'succeeded') return { ok: true, value: output };
    if (isFinal(status)) {
      return refuse('no_result', `The job ${status}: ${error?.message ?? ''}`, { extra: { status, error } });
    }
    const retryAfter = pollAfterSeconds(createdAt, new Date());
    return refuse('job_not_finished', `The job is ${status}. Ask again in ${retryAfter} s.`, {
      retryAfter,
      extra: { status },
    });
  }

  async runs(accountId: AccountId, id: JobId): Promise<Result<RunRecord[]>> {
    const job = await this.find(accountId, id);
    return job.ok ? { ok: true, value: await listRuns(this.#db, accountId, id) } : job;
  }
}
