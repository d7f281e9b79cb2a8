import type { Clock } from '#domain/clock.ts';
import { ClaimLoop } from '#queue/claim-loop.ts';
import { type ClaimedJob, claimRuns } from '#store/claim-runs.ts';
import type { Database } from '#store/database.ts';

export interface PoolRunnerDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly workerId: string;
  readonly pool: string;
  /** Runs at once in this process. */
  readonly concurrency: number;
  /** Runs at once in all processes together; null for no limit. */
  readonly poolLimit: number | null;
  readonly accountLimits: AccountLimits;
  readonly leaseMs: number;
  readonly pollMs: number;
  readonly work: (job: ClaimedJob) => Promise<void>;
  readonly onError: (error: unknown) => void;
}

/** What accounts may have running at once. */
export interface AccountLimits {
  /** Of an account whose row says nothing; null for no limit. */
  readonly maxRunning: number | null;
  /** True when any account has a limit: only then are claims made one after the other. */
  readonly any: () => boolean;
}

/** Claims runs of one pool and works them off. */
export class PoolRunner {
  readonly pool: string;
  readonly loop: ClaimLoop<ClaimedJob>;
  readonly #deps: PoolRunnerDeps;
  #nextAccount = '';

  constructor(deps: PoolRunnerDeps) {
    this.#deps = deps;
    this.pool = deps.pool;
    this.loop = new ClaimLoop<ClaimedJob>({
      concurrency: deps.concurrency,
      pollMs: deps.pollMs,
      claim: (limit) => this.#claim(limit),
      work: deps.work,
      onError: deps.onError,
    });
  }

  async #claim(limit: number): Promise<{ claimed: readonly ClaimedJob[]; more: boolean }> {
    const { db, clock, pool, workerId, leaseMs, poolLimit, accountLimits } = this.#deps;
    const { jobs, more, nextAccount } = await claimRuns(db, {
      pool,
      limit,
      workerId,
      heldBy: 'runner',
      leaseMs,
      afterAccount: this.#nextAccount,
      now: clock.now(),
      poolLimit,
      accountLimit: accountLimits.maxRunning,
      exclusive: poolLimit !== null || accountLimits.any(),
    });
    this.#nextAccount = nextAccount;
    return { claimed: jobs, more };
  }
}
