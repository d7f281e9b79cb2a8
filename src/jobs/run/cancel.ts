import type { Clock } from '#domain/clock.ts';
import type { AccountId, JobId } from '#domain/ids.ts';
import { isFinal } from '#domain/job.ts';
import type { Result } from '#domain/problem.ts';
import type { Database } from '#store/database.ts';
import { retryContended } from '#store/group-commit.ts';
import { findHeldJob } from '#store/held-runs.ts';
import { findJob } from '#store/job-reads.ts';
import type { JobRecord } from '#store/jobs.ts';
import { deleteChunks } from '#store/result-chunks.ts';
import { type JobRef, requestCancel, type RunRef } from '#store/run-queue.ts';
import { endRun } from './end-run.ts';
import type { Endings } from './endings.ts';
import type { JobTypes } from '../type/job-types.ts';
import { refuseMissing } from '../read/missing-job.ts';

export interface CancelerDeps {
  readonly db: Database;
  readonly clock: Clock;
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
    const { db, clock } = this.#deps;
    for (let look = 0; look < MAX_LOOKS; look++) {
      // First whatever run is under way, so that one run after the other cannot slip by between a look and a write.
      const runId = await retryContended(() => requestCancel(db, { accountId, jobId: id }, clock.now()));
      if (runId !== undefined && (await this.#stop({ accountId, jobId: id, runId }))) return this.#read(accountId, id);
      const job = await findJob(db, accountId, id);
      if (job === undefined) return refuseMissing(db, accountId, id);
      if (isFinal(job.status)) return { ok: true, value: job };
      if (job.runId === null && (await this.#end(job))) return this.#read(accountId, id);
    }
    throw new Error(`job ${id} changed ${MAX_LOOKS} times while it was being canceled`);
  }

  async #read(accountId: AccountId, id: JobId): Promise<Result<JobRecord>> {
    const job = await findJob(this.#deps.db, accountId, id);
    return job === undefined ? refuseMissing(this.#deps.db, accountId, id) : { ok: true, value: job };
  }

  async #end(job: JobRecord): Promise<boolean> {
    const end = () => endRun(job, { kind: 'canceled' }, this.#deps);
    const canceled = (await retryContended(end)) !== undefined;
    // What a back end has sent of its result so far.
    if (canceled && job.runId !== null)
      await deleteChunks(this.#deps.db.sql, { accountId: job.accountId, runId: job.runId });
    return canceled;
  }

  /** Tells whoever holds the run; false when it went back to the queue or to somebody else meanwhile. */
  async #stop(run: RunRef): Promise<boolean> {
    const held = await findHeldJob(this.#deps.db, run);
    // A back end that answered 202 listens to nobody: there is nothing to wait for.
    if (held?.heldBy === 'backend') return this.#end(held);
    this.#deps.signalCancel(run.jobId);
    this.#deps.jobsChanged([run]);
    return true;
  }
}
