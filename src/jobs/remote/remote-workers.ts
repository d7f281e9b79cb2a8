import { type Result, refuse } from '#domain/problem.ts';
import type { Sleeper } from '#queue/signals.ts';
import { type ClaimedJob, claimRuns } from '#store/claim-runs.ts';
import { findReadyPools, type JobRef } from '#store/run-queue.ts';
import { endRun } from '../run/end-run.ts';
import type { JobType } from '../type/job-types.ts';
import type { AccountLimits } from '../run/pool-runner.ts';
import type { RunReportsDeps } from './run-reports.ts';
import { type ClaimWish, WaitingRoom } from './waiting-room.ts';

export type { ClaimedJob };

export interface ClaimRequest {
  readonly types: readonly string[];
  /** Runs at most. */
  readonly max: number;
  readonly waitMs: number;
  readonly leaseMs: number;
  /** What the worker calls itself; on record with every run. */
  readonly worker: string;
}

export interface RemoteWorkersDeps extends Omit<RunReportsDeps, 'holders'> {
  readonly accountLimits: AccountLimits;
  readonly register: (pool: string, sleeper: Sleeper) => () => void;
}

/**
 * Hands runs to workers that ask for them over HTTP. They are the platform owner's own: what they claim may be any
 * account's, and is shared out among the accounts as everywhere.
 */
export class RemoteWorkers {
  readonly #deps: RemoteWorkersDeps;
  readonly #room: WaitingRoom;
  /** By pool: where the next claim begins its round of the accounts. */
  readonly #nextAccount = new Map<string, string>();
  #turn = 0;

  constructor(deps: RemoteWorkersDeps) {
    this.#deps = deps;
    this.#room = new WaitingRoom({
      register: deps.register,
      claim: (pool, wish) => this.#claimFrom(pool, wish, wish.max),
      findReady: (pools) => findReadyPools(deps.db, pools),
      onError: (error) => deps.log.error({ err: error }, 'remote workers'),
    });
  }

  /**
   * Claims runs, or waits for some. Empty when none came in time.
   * @param gone aborts when the worker that asked is not there any more: what was claimed for it is given back at once
   */
  async claim(request: ClaimRequest, gone: AbortSignal): Promise<Result<readonly ClaimedJob[]>> {
    const pools = this.#poolsOf(request.types);
    if (!pools.ok) return pools;
    const wish = { pools: pools.value, max: request.max, workerId: request.worker, leaseMs: request.leaseMs };
    const guest = this.#room.enter(wish);
    try {
      const ready = await this.#claimNow(wish);
      const claimed = ready.length > 0 ? ready : await this.#room.wait(guest, request.waitMs, gone);
      return { ok: true, value: await this.#handOut(claimed, request.worker, gone) };
    } finally {
      this.#room.leave(guest);
    }
  }

  /** Answers those who wait, with nothing. */
  stop(): void {
    this.#room.close();
  }

  #poolsOf(names: readonly string[]): Result<string[]> {
    const types: JobType[] = [];
    for (const [index, name] of names.entries()) {
      const type = this.#deps.types.find(name);
      if (!type.ok) return type;
      if (type.value.way !== 'remote') {
        const message = `${name} is not done by remote workers: its definition does not say remote: true`;
        return refuse('invalid_body', `/types/${index}: ${message}`, {
          faults: [{ path: `/types/${index}`, message }],
        });
      }
      types.push(type.value);
    }
    return { ok: true, value: [...new Set(types.map(({ pool }) => pool))] };
  }

  /** From the pools that hold something; each time another one comes first, so that no type waits for another's backlog. */
  async #claimNow(wish: ClaimWish): Promise<readonly ClaimedJob[]> {
    const { pools, max } = wish;
    const ready = pools.length === 1 ? pools : await findReadyPools(this.#deps.db, pools);
    const first = this.#turn++ % Math.max(1, ready.length);
    const claimed: ClaimedJob[] = [];
    for (const pool of [...ready.slice(first), ...ready.slice(0, first)]) {
      if (claimed.length >= max) break;
      try {
        claimed.push(...(await this.#claimFrom(pool, wish, max - claimed.length)));
      } catch (error) {
        // What is claimed already must not be lost with it.
        if (claimed.length === 0) throw error;
      }
    }
    return claimed;
  }

  async #claimFrom(pool: string, { workerId, leaseMs }: ClaimWish, limit: number): Promise<readonly ClaimedJob[]> {
    const { db, clock, types, accountLimits } = this.#deps;
    const poolLimit = types.get(pool.slice(pool.indexOf(':') + 1))?.concurrency ?? null;
    for (;;) {
      const { jobs, more, nextAccount } = await claimRuns(db, {
        pool,
        limit,
        workerId,
        heldBy: 'worker',
        leaseMs,
        afterAccount: this.#nextAccount.get(pool) ?? '',
        now: clock.now(),
        poolLimit,
        accountLimit: accountLimits.maxRunning,
        exclusive: poolLimit !== null || accountLimits.any(),
      });
      this.#nextAccount.set(pool, nextAccount);
      // Nothing that may start in the lanes it looked at: there are more behind them.
      if (jobs.length > 0 || !more) return jobs;
    }
  }

  async #handOut(jobs: readonly ClaimedJob[], worker: string, gone: AbortSignal): Promise<ClaimedJob[]> {
    if (jobs.length === 0) return [];
    const keeps = ({ cancelRequestedAt }: ClaimedJob) => !gone.aborted && cancelRequestedAt === null;
    const handedOut = jobs.filter(keeps);
    await Promise.all(jobs.filter((job) => !keeps(job)).map((job) => this.#giveBack(job)));
    const { teller } = this.#deps;
    await Promise.all(handedOut.map((job) => teller.started(job, AbortSignal.abort())));
    this.#deps.jobsChanged(handedOut.map(refOf));
    const runs = handedOut.map(({ runId }) => runId);
    this.#deps.log.info({ worker_id: worker, claimed: jobs.length, runs }, 'claim');
    return handedOut;
  }

  /** What is not handed out: its worker left, or its client called it off between two runs. */
  async #giveBack(job: ClaimedJob): Promise<void> {
    try {
      await endRun(job, { kind: 'released' }, this.#deps);
    } catch (error) {
      // Its lease runs out, and the others must not be lost with it.
      this.#deps.log.error({ err: error, job_id: job.id, run_id: job.runId }, 'a run could not be given back');
    }
  }
}

function refOf({ accountId, id: jobId }: ClaimedJob): JobRef {
  return { accountId, jobId };
}
