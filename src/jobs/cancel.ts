import type { AccountId, JobId } from '#domain/ids.ts';
import { isFinal } from '#domain/job.ts';
import type { Result } from '#domain/problem.ts';
import type { Database } from '#store/database.ts';
import { findHeldJob } from '#store/held-runs.ts';
import { findJob } from '#store/job-reads.ts';
import type { JobRecord } from '#store/jobs.ts';
import { deleteChunks } from '#store/result-chunks.ts';
import { type JobRef, requestCancel } from '#store/run-queue.ts';
import { endRun } from './end-run.ts';
import type { Endings } from './endings.ts';
import type { JobTypes } from './job-types.ts';
import { refuseMissing } from './missing-job.ts';

export interface CancelerDeps {
  readonly db: Database;
  readonly types: JobTypes;
  readonly endings: Endings;
  readonly publicUrl: string;
  /** Tells whoever runs the job, wherever. */
  readonly signalCancel: (jobId: JobId) => void;
  readonly jobsChanged: (jobs: readonly JobRef[]) => void;
}

/** A job may be claimed, end or fail between a look and the write that follows it: then it is looked at again. */
const MAX_LOOKS = 20;

/** Calls jobs off: at once while they wait, cooperatively while they run. */
export class Canceler {
  readonly #deps: CancelerDeps;

  constructor(deps: CancelerDeps) {
    this.#deps = deps;
  }

  /**
   * Answers the job as it is then: `canceled` if it waited, `in_progress` with `cancelRequestedAt` while its run is being
   * stopped, unchanged if it was over already. So it may be asked again and again.
   */
  async cancel(accountId: AccountId, id: JobId): Promise<Result<JobRecord>> {
    const { db } = this.#deps;
    for (let look = 0; look < MAX_LOOKS; look++) {
      const job = await findJob(db, accountId, id);
      if (job === undefined) return refuseMissing(db, accountId, id);
      if (isFinal(job.status)) return { ok: true, value: job };
      const done = job.runId === null ? await this.#end(job) : await this.#stop(job, job.runId);
      if (done) {
        const after = await findJob(db, accountId, id);
        return after === undefined ? refuseMissing(db, accountId, id) : { ok: true, value: after };
      }
    }
    throw new Error(`job ${id} changed ${MAX_LOOKS} times while it was being canceled`);
  }

  async #end(job: JobRecord): Promise<boolean> {
    const canceled = (await endRun(job, { kind: 'canceled' }, this.#deps)) !== undefined;
    // What a back end has sent of its result so far.
    if (canceled && job.runId !== null)
      await deleteChunks(this.#deps.db.sql, { accountId: job.accountId, runId: job.runId });
    return canceled;
  }

  async #stop({ accountId, id: jobId }: JobRecord, runId: NonNullable<JobRecord['runId']>): Promise<boolean> {
    const run = { accountId, jobId, runId };
    if (!(await requestCancel(this.#deps.db, run, new Date()))) return false;
    const held = await findHeldJob(this.#deps.db, run);
    // A back end that answered 202 listens to nobody: there is nothing to wait for.
    if (held?.heldBy === 'backend') return this.#end(held);
    this.#deps.signalCancel(jobId);
    this.#deps.jobsChanged([run]);
    return true;
  }
}
