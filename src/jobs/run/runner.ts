import { LEASE_MS, Leases } from '#queue/leases.ts';
import type { Sleeper } from '#queue/signals.ts';
import type { ClaimedJob } from '#store/claim-runs.ts';
import { renewLeases, type RunRef } from '#store/run-queue.ts';
import { type JobType, SHARED_POOLS } from '../type/job-types.ts';
import { type AccountLimits, PoolRunner } from './pool-runner.ts';
import { type RunWorkDeps, workOff } from './run-work.ts';

export interface RunnerDeps extends RunWorkDeps {
  readonly workerId: string;
  /** Runs at once in this process that share its event loop. */
  readonly concurrency: number;
  /** Runs at once in threads of this process. */
  readonly threads: number;
  readonly accountLimits: AccountLimits;
  readonly pollMs: number;
}

/** A run under way in this process, and what ends it from outside. */
interface Held extends RunRef {
  readonly leaseLost: AbortController;
  readonly canceled: AbortController;
}

/** Claims jobs, executes them, and records how each run ended: a loop for each pool that this process works for. */
export class Runner {
  readonly pools: readonly PoolRunner[];
  readonly #deps: RunnerDeps;
  readonly #held = new Map<string, Held>();
  readonly #leases: Leases<Held>;
  readonly #shutdown = new AbortController();

  constructor(deps: RunnerDeps) {
    this.#deps = deps;
    const onError = (error: unknown) => deps.log.error({ err: error }, 'runner');
    this.#leases = new Leases<Held>((held) => this.#renew(held), onError);
    this.pools = poolsOf(deps).map(
      (pool) => new PoolRunner({ ...deps, ...pool, leaseMs: LEASE_MS, work: (job) => this.#work(job), onError }),
    );
  }

  /** The loops by the name under which their work is announced. */
  get sleepers(): ReadonlyArray<readonly [string, Sleeper]> {
    return this.pools.map(({ pool, loop }) => [`pool:${pool}`, loop] as const);
  }

  start(): void {
    this.#leases.start();
    for (const { loop } of this.pools) loop.start();
  }

  /** A job was called off: if it runs here, it is told. */
  cancel(jobId: string): void {
    this.#held.get(jobId)?.canceled.abort();
  }

  /** Claims no more and waits for what runs; after `graceMs` the rest is given back, as if it had not been claimed. */
  async stop(graceMs: number): Promise<void> {
    const timer = setTimeout(() => this.#shutdown.abort(), graceMs);
    await Promise.all(this.pools.map(({ loop }) => loop.stop()));
    clearTimeout(timer);
    this.#leases.stop();
  }

  async #work(job: ClaimedJob): Promise<void> {
    const held = {
      accountId: job.accountId,
      jobId: job.id,
      runId: job.runId,
      leaseLost: new AbortController(),
      canceled: new AbortController(),
    };
    // Between two runs: the cancel came while the first of them failed.
    if (job.cancelRequestedAt !== null) held.canceled.abort();
    this.#held.set(job.id, held);
    this.#leases.hold(held, () => held.leaseLost.abort());
    this.#deps.jobsChanged([held]);
    try {
      const stops = {
        shutdown: this.#shutdown.signal,
        leaseLost: held.leaseLost.signal,
        canceled: held.canceled.signal,
      };
      await workOff(job, stops, this.#deps);
    } finally {
      this.#leases.drop(held);
      // A run that took over in this very process is in its place by now.
      if (this.#held.get(job.id) === held) this.#held.delete(job.id);
    }
  }

  /** A renewal also tells which of them were called off, should the signal have been missed. */
  async #renew(held: readonly Held[]): Promise<readonly Held[]> {
    const refs = held.map(({ accountId, jobId, runId }) => ({ accountId, jobId, runId }));
    const renewed = await renewLeases(this.#deps.db.sql, refs, {
      leaseMs: LEASE_MS,
      capped: false,
      now: this.#deps.clock.now(),
    });
    const byRun = new Map(renewed.map((run) => [run.runId, run]));
    for (const { runId, canceled } of held) if (byRun.get(runId)?.cancelRequested === true) canceled.abort();
    return held.filter(({ runId }) => !byRun.has(runId));
  }
}

/** A pool for each way that runs here, and one for each type with a limit: how much of it may run in this process. */
function poolsOf({ types, concurrency, threads }: RunnerDeps) {
  const shared = [
    { pool: SHARED_POOLS.inline, concurrency, poolLimit: null },
    ...(types.list().some(({ way }) => way === 'thread')
      ? [{ pool: SHARED_POOLS.thread, concurrency: threads, poolLimit: null }]
      : []),
  ];
  const isLimited = (type: JobType): type is JobType & { concurrency: number } =>
    type.concurrency !== undefined && type.way !== 'remote';
  const limited = types
    .list()
    .filter(isLimited)
    .map(({ pool, way, concurrency: poolLimit }) => ({
      pool,
      concurrency: Math.min(poolLimit, way === 'thread' ? threads : concurrency),
      poolLimit,
    }));
  return [...shared, ...limited];
}
