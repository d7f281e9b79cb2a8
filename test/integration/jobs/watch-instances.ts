import { onTestFinished } from 'vitest';
import { type AccountId, newId } from '#domain/ids.ts';
import { DEFAULT_RETRY_POLICY } from '#domain/retry.ts';
import { type ChangeTimes, JobChanges } from '#queue/job-changes.ts';
import type { Database } from '#store/database.ts';
import { findJobs } from '#store/job-reads.ts';
import { type JobRecord } from '#store/jobs.ts';
import { endRuns } from '#store/end-runs.ts';
import { JobWatch } from '../../../src/jobs/wait/job-watch.ts';
import { decideRunEnd } from '../../../src/jobs/run/run-end.ts';
import type { TestDatabase } from '../../support/database.ts';
import { insertJob } from '../../support/fixtures.ts';
import { PUBLIC_URL } from '../../support/workers.ts';

/** Long enough to be no part of the test. */
const NEVER_MS = 3_600_000;

/** A database that counts what it is asked: each of our functions takes a pool once for a statement. */
export function counting(db: Database): Database & { readonly statements: number; readonly reads: number } {
  let [others, reads] = [0, 0];
  const counted: Database & { readonly statements: number; readonly reads: number } = {
    get sql() {
      others += 1;
      return db.sql;
    },
    get orm() {
      reads += 1;
      return db.orm;
    },
    get statements() {
      return others + reads;
    },
    /** Of jobs, to hand them out. */
    get reads() {
      return reads;
    },
    transaction: (work) => {
      others += 1;
      return db.transaction(work);
    },
    within: () => counted,
    close: () => db.close(),
  };
  return counted;
}

export interface InstanceOptions {
  readonly times?: Partial<ChangeTimes>;
  readonly checkEveryMs?: number;
  /** Where it hears the others, and where it reads; its own unless told otherwise. */
  readonly listenUrl?: string;
  readonly url?: string;
  /** False for a process that hears nobody. */
  readonly listens?: boolean;
}

/** A process that jobs are watched in, and that changes them. Nothing is checked unless it is told to. */
export async function startInstance(database: TestDatabase, options: InstanceOptions = {}) {
  const { url = database.url, listenUrl = database.url, checkEveryMs = NEVER_MS } = options;
  const db = counting(database.open({ url }));
  const listener = database.listener({ url: listenUrl });
  const errors: unknown[] = [];
  const onError = (error: unknown) => void errors.push(error);
  const times = { announceEveryMs: NEVER_MS, believedMs: NEVER_MS, settleMs: NEVER_MS, ...options.times };
  const changes = new JobChanges({ db, listener, instance: newId('wrk', Date.now()), onError, times });
  const watching: boolean[] = [];
  const told: Pick<JobChanges, 'tell' | 'watching'> = {
    tell: (to) => changes.tell(to),
    watching: (isWatching) => {
      watching.push(isWatching);
      changes.watching(isWatching);
    },
  };
  const watch = new JobWatch({ db, changes: told, onError, checkEveryMs });
  if (options.listens !== false) await changes.listen();
  onTestFinished(async () => {
    await Promise.all([watch.close(), changes.close()]);
  });
  return { db, listener, changes, watch, watching, errors };
}

export type Instance = Awaited<ReturnType<typeof startInstance>>;

/** A job that waits, as it was read. */
export async function insertedJob({ db }: TestDatabase, accountId: AccountId): Promise<JobRecord> {
  const { id: jobId } = await insertJob(db, accountId);
  const [job] = await findJobs(db, [{ accountId, jobId }]);
  return job!;
}

/** Ends jobs that wait, in one transaction; nobody is told. */
export async function endQuietly({ db }: TestDatabase, jobs: readonly JobRecord[]): Promise<void> {
  const context = { policy: DEFAULT_RETRY_POLICY, publicUrl: PUBLIC_URL, now: new Date(), random: 0 };
  const ended = await endRuns(
    db.sql,
    jobs.map((job) => decideRunEnd(job, { kind: 'canceled' }, context)),
  );
  if (ended.size !== jobs.length) throw new Error(`${jobs.length - ended.size} jobs could not be ended`);
}

/** Ends jobs that wait, as the process does that tells of it. */
export async function end(database: TestDatabase, by: Instance, jobs: readonly JobRecord[]): Promise<void> {
  await endQuietly(database, jobs);
  by.changes.publish(jobs.map(({ accountId, id: jobId }) => ({ accountId, jobId })));
}
