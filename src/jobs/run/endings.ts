import type { JobId } from '#domain/ids.ts';
import type { Database } from '#store/database.ts';
import { FenceRefused, GroupCommit, MEASURED_GROUPS } from '#store/group-commit.ts';
import { endRuns, type RunEnd } from '#store/end-runs.ts';
import type { JobRef } from '#store/run-queue.ts';

/** Who is told, after the commit, of what a run's end brings about. */
export interface EndingListeners {
  readonly announceDeliveries: () => void;
  /** What is told of those jobs follows what was told of them before. */
  readonly advanceJobs: (jobIds: readonly JobId[]) => void;
  readonly announceRuns: (pool: string) => void;
  /** A run will be due at that time (Unix milliseconds). */
  readonly dueAt: (at: number) => void;
  readonly jobsChanged: (jobs: readonly JobRef[]) => void;
  /** A run of that type has ended by itself, after so many milliseconds. */
  readonly ran?: (type: string, ms: number) => void;
}

interface Ending {
  readonly end: RunEnd;
  /** Where the job waits for its next run, should there be one; null leaves it where it is. */
  readonly pool: string | null;
}

/** The one way in which runs and waiting jobs end, whoever ran them: many in one transaction. */
export class Endings {
  readonly #db: Database;
  readonly #listeners: EndingListeners;
  readonly #group: GroupCommit<Ending>;

  constructor(deps: { db: Database; listeners: EndingListeners }) {
    this.#db = deps.db;
    this.#listeners = deps.listeners;
    this.#group = new GroupCommit<Ending>({ ...MEASURED_GROUPS, commit: (endings) => this.#commit(endings) });
  }

  /**
   * True once it is written; false when the run was not the job's own any more, and nothing was. See `endRun`.
   * @param isAside as in `GroupCommit`
   */
  async add(end: RunEnd, pool: string | null, isAside = false): Promise<boolean> {
    const isOurs = await this.#group.add({ end, pool }, isAside);
    if (!isOurs) return false;
    const { announceRuns, dueAt, jobsChanged, ran } = this.#listeners;
    if (end.nextRunAt !== null) dueAt(end.nextRunAt.getTime());
    else if (end.jobStatus === 'in_progress' && pool !== null) announceRuns(pool);
    jobsChanged([end]);
    if (end.ran !== undefined) ran?.(end.ran.type, end.ran.ms);
    return true;
  }

  /** An end of this job was written, but its answer was lost: nothing has been announced. */
  foundWritten(job: JobRef): void {
    const { announceDeliveries, advanceJobs, jobsChanged } = this.#listeners;
    announceDeliveries();
    advanceJobs([job.jobId]);
    jobsChanged([job]);
  }

  async #commit(endings: readonly Ending[]): Promise<ReadonlySet<Ending>> {
    const ends = endings.map(({ end, pool }) => (end.jobStatus === 'in_progress' ? { ...end, pool } : end));
    // Two ends of one job, told at once from outside: only one can be written, and each must know whether it was. Alone.
    if (new Set(ends.map(({ jobId }) => jobId)).size < ends.length) throw new FenceRefused();
    const ended = await endRuns(this.#db.sql, ends);
    const { announceDeliveries, advanceJobs } = this.#listeners;
    const all = [...ended];
    if (all.some(([, { isToTell }]) => isToTell)) announceDeliveries();
    advanceJobs(all.flatMap(([id, { isFollowing }]) => (isFollowing ? id : [])));
    return new Set(endings.filter(({ end }) => !ended.has(end.jobId)));
  }
}
