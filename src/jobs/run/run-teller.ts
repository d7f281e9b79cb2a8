import type { Clock } from '#domain/clock.ts';
import { newId } from '#domain/ids.ts';
import type { JobProgress } from '#domain/job.ts';
import type { Database } from '#store/database.ts';
import { GroupCommit, MEASURED_GROUPS } from '#store/group-commit.ts';
import { findJob } from '#store/job-reads.ts';
import { type JobRecord, setProgress } from '#store/jobs.ts';
import type { RunRef } from '#store/run-queue.ts';
import { type RunTelling, tellRuns } from '#store/tell-runs.ts';
import type { EndingListeners } from './endings.ts';
import { eventBody, namedDelivery } from './event-body.ts';

export interface RunTellerDeps extends Pick<EndingListeners, 'announceDeliveries' | 'advanceJobs' | 'jobsChanged'> {
  readonly db: Database;
  readonly clock: Clock;
  readonly publicUrl: string;
  /** Progress of a job is told once in so many milliseconds, at most. */
  readonly progressEveryMs: number;
  readonly onError: (error: unknown) => void;
}

const EARLY_MS = 2;

/** Tells who wants to hear of a job while it goes on: that it has started, and how far it is. */
export class RunTeller {
  readonly #deps: RunTellerDeps;
  readonly #group: GroupCommit<RunTelling>;
  /** Runs whose progress is to be told once its time has come. */
  readonly #due = new Map<string, NodeJS.Timeout>();

  constructor(deps: RunTellerDeps) {
    this.#deps = deps;
    this.#group = new GroupCommit<RunTelling>({ ...MEASURED_GROUPS, commit: (tellings) => this.#commit(tellings) });
  }

  /**
   * Tells that a job has started, if that was left to us: to be called, and waited for, before the work begins, so that
   * nothing of the job is told before. Never rejects.
   */
  async started(job: JobRecord, signal: AbortSignal): Promise<void> {
    const { isStartUntold, accountId, id: jobId, runId } = job;
    if (!isStartUntold || runId === null) return;
    const telling = this.#telling('job.started', job, { accountId, jobId, runId });
    try {
      await this.#group.persist(telling, signal);
    } catch (error) {
      this.#deps.onError(error);
    }
  }

  /**
   * Shows how far a run is; false when it is no longer its job's own. What is shown is told at once, or when the time since
   * something was told last has passed, as it is by then. Another process may have the same in mind: the database lets one
   * of them.
   */
  async progress(run: RunRef, progress: JobProgress): Promise<boolean> {
    const { db, clock, progressEveryMs: tellEveryMs, jobsChanged } = this.#deps;
    const shown = await setProgress(db.sql, run, progress, { now: clock.now(), tellEveryMs });
    if (shown === undefined) return false;
    jobsChanged([run]);
    if (shown.tellInMs !== null && !this.#due.has(run.runId)) this.#tellIn(run, shown.tellInMs);
    return true;
  }

  #tellIn(run: RunRef, ms: number): void {
    const tell = () => {
      this.#due.delete(run.runId);
      this.#tellProgress(run).catch(this.#deps.onError);
    };
    // A timer may go off a little early.
    this.#due.set(run.runId, setTimeout(tell, ms === 0 ? 0 : ms + EARLY_MS).unref());
  }

  async #tellProgress(run: RunRef): Promise<void> {
    const job = await findJob(this.#deps.db, run.accountId, run.jobId);
    if (job?.runId !== run.runId || job.progress === null) return;
    // A run is handed to a remote worker though its start could not be told just then.
    if (job.isStartUntold) await this.#group.add(this.#telling('job.started', job, run));
    const isTold = await this.#group.add(this.#telling('job.progress', job, run));
    // Somebody was faster, and may have told what it was before: a run that says nothing more must not be left at that.
    if (!isTold && !this.#due.has(run.runId)) this.#tellIn(run, this.#deps.progressEveryMs);
  }

  #telling(type: RunTelling['event']['type'], job: JobRecord, run: RunRef): RunTelling {
    const { clock, publicUrl, progressEveryMs } = this.#deps;
    const now = clock.now();
    return {
      ...run,
      event: { id: newId('evt', now.getTime()), type, body: eventBody(type, job, publicUrl, now) },
      delivery: namedDelivery(job, type, now),
      toldAt: now,
      progressEveryMs,
    };
  }

  async #commit(tellings: readonly RunTelling[]): Promise<ReadonlySet<RunTelling>> {
    const { db, announceDeliveries, advanceJobs, jobsChanged } = this.#deps;
    // Of two of one job a statement writes one, and nobody knows which: the later one is refused.
    const firsts = new Set(new Map(tellings.toReversed().map((telling) => [telling.jobId, telling])).values());
    const told = await tellRuns(db.sql, [...firsts]);
    if (told.size > 0) announceDeliveries();
    advanceJobs([...told]);
    jobsChanged(tellings.filter(({ jobId }) => told.has(jobId)));
    return new Set(tellings.filter((telling) => !told.has(telling.jobId) || !firsts.has(telling)));
  }
}
