import type { AccountId, RunId } from '#domain/ids.ts';
import {
  dueAtOf,
  type Lane,
  type PendingJob,
  pollAfterSeconds,
  type PoolLoad,
  queueTimeMs,
} from '#domain/poll-after.ts';
import type { Database } from '#store/database.ts';
import { type QueueSample, sampleQueue } from '#store/queue-samples.ts';
import { FADE_SECONDS, readTypeRuns, type TypeRuns } from '#store/type-stats.ts';
import { type JobTypes, SHARED_POOLS } from '../type/job-types.ts';

/** The parts of a job that say when it may be done. */
export type PolledJob = Omit<PendingJob, 'runningSince'> & {
  readonly accountId: AccountId;
  readonly type: string;
  readonly runId: RunId | null;
  readonly runStartedAt: Date | null;
};

const READ_EVERY_MS = 5000;
/** Reading may take one part of so many of a connection's time. */
const SHARE = 100;

interface Snapshot {
  /** What a run of a type takes, in milliseconds. */
  readonly runMs: ReadonlyMap<string, number>;
  readonly pools: ReadonlyMap<string, PoolLoad>;
}

const NOTHING: Snapshot = { runMs: new Map(), pools: new Map() };

/**
 * When it is worth asking for a job again: from what runs of its type have taken lately and what waits before it. Nobody
 * waits for these figures: the answer is from those read last, and while somebody asks they are read every few seconds,
 * the same two statements whatever the number of jobs.
 */
export class PollEstimate {
  readonly #db: Database;
  readonly #types: JobTypes;
  readonly #onError: (error: unknown) => void;
  #snapshot = NOTHING;
  #readAgainAt = Number.NEGATIVE_INFINITY;

  constructor(deps: { db: Database; types: JobTypes; onError: (error: unknown) => void }) {
    this.#db = deps.db;
    this.#types = deps.types;
    this.#onError = deps.onError;
  }

  /** Seconds, for `Retry-After`. */
  after(job: PolledJob, now: Date): number {
    if (performance.now() >= this.#readAgainAt) void this.read();
    const runMs = this.#snapshot.runMs.get(job.type) ?? null;
    const pending = { ...job, runningSince: job.runId === null ? null : job.runStartedAt };
    const pool = this.#snapshot.pools.get(poolOf(this.#types, job.type));
    const queueMs = pool === undefined ? 0 : queueTimeMs(pool, job.accountId, dueAtOf(job));
    return pollAfterSeconds(pending, { runMs, queueMs }, now);
  }

  /** Reads the figures anew; never rejects. */
  async read(): Promise<void> {
    const startedAt = performance.now();
    this.#readAgainAt = Number.POSITIVE_INFINITY;
    try {
      const [ran, queue] = await Promise.all([readTypeRuns(this.#db), sampleQueue(this.#db)]);
      this.#snapshot = {
        runMs: new Map(ran.map(({ type, runs, totalMs }) => [type, totalMs / runs])),
        pools: poolLoads(this.#types, ran, queue),
      };
    } catch (error) {
      this.#onError(error);
    }
    const now = performance.now();
    this.#readAgainAt = now + Math.max(READ_EVERY_MS, (now - startedAt) * SHARE);
  }
}

function poolOf(types: JobTypes, type: string): string {
  return types.get(type)?.pool ?? SHARED_POOLS.inline;
}

function poolLoads(types: JobTypes, ran: readonly TypeRuns[], { lanes, running }: QueueSample): Map<string, PoolLoad> {
  const ranByPool = Map.groupBy(ran, ({ type }) => poolOf(types, type));
  const loads = [...Map.groupBy(lanes, ({ pool }) => pool)].map(([pool, ofPool]) => {
    const byAccount = new Map<string, Lane>(ofPool.map((lane) => [lane.accountId, lane]));
    const runsPerMs = throughput(ranByPool.get(pool) ?? [], running.get(pool) ?? 0);
    return [pool, { lanes: byAccount, runsPerMs }] as const;
  });
  return new Map(loads);
}

/**
 * Runs a pool gets through in a millisecond, while it has a backlog: what it got through lately, or, when that has only
 * begun, what is under way by what a run takes (Little's law). Null when nothing seems to run.
 */
function throughput(ran: readonly TypeRuns[], running: number): number | null {
  const runs = ran.reduce((sum, type) => sum + type.runs, 0);
  const totalMs = ran.reduce((sum, type) => sum + type.totalMs, 0);
  const lately = runs / (FADE_SECONDS * 1000);
  const now = totalMs > 0 ? (running * runs) / totalMs : 0;
  // Less than one run lately, and none now: whoever ran them may be gone.
  return running === 0 && runs < 1 ? null : Math.max(lately, now) || null;
}
