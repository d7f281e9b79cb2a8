import { setTimeout as setTimeoutPromise } from 'node:timers/promises';
import { isTransient } from './database.ts';

/**
 * Group commit: what is in flight together shares one transaction. Sending each member through its own costs a commit
 * and four round trips a member; sent together they cost that once (60-100 jobs a second become thousands).
 */
export interface GroupCommitOptions<Member> {
  /**
   * Runs one transaction over the members; answers those that were refused, if any, and of whom nothing was written.
   * Throwing means that nothing was written at all.
   */
  readonly commit: (members: readonly Member[]) => Promise<ReadonlySet<Member> | void>;
  /** Members of one transaction at most. */
  readonly maxMembers: number;
  /** Transactions under way at once; while they are, newcomers gather for the next. */
  readonly maxTransactions: number;
  /** How long the first member waits for company, in milliseconds; 0 waits for the event loop's turn only. */
  readonly lingerMs: number;
  /** Errors that would hit every member alone as well: they are not tried again one by one. */
  readonly failsAll: (error: unknown) => boolean;
}

/** How groups are formed on every hop; measured with `npm run bench` (docs/decisions/0006). */
export const MEASURED_GROUPS = {
  maxMembers: 200,
  maxTransactions: 1,
  lingerMs: 1,
  failsAll: isTransient,
} as const satisfies Partial<GroupCommitOptions<never>>;

/** Thrown by `commit` to roll back because a member's fence refused it: somebody else took over what it holds. */
export class FenceRefused extends Error {}

interface Waiting<Member> {
  readonly member: Member;
  readonly resolve: (committed: boolean) => void;
  readonly reject: (error: unknown) => void;
}

export class GroupCommit<Member> {
  readonly #options: GroupCommitOptions<Member>;
  #waiting: Waiting<Member>[] = [];
  #transactions = 0;
  #scheduled = false;

  constructor(options: GroupCommitOptions<Member>) {
    this.#options = options;
  }

  /** True once the member's transaction has committed; false when it was refused. Rejects with its own error. */
  add(member: Member): Promise<boolean> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ member, resolve, reject });
      this.#schedule();
    });
  }

  #schedule(lingerMs = this.#options.lingerMs): void {
    if (this.#scheduled || this.#transactions >= this.#options.maxTransactions) return;
    this.#scheduled = true;
    if (lingerMs > 0) setTimeout(() => this.#start(), lingerMs);
    else setImmediate(() => this.#start());
  }

  #start(): void {
    this.#scheduled = false;
    const group = this.#waiting.splice(0, this.#options.maxMembers);
    if (group.length === 0) return;
    this.#transactions += 1;
    void this.#settle(group).finally(() => {
      this.#transactions -= 1;
      // They have waited a whole transaction for company.
      if (this.#waiting.length > 0) this.#schedule(0);
    });
    if (this.#waiting.length > 0) this.#schedule(0);
  }

  /** Commits a group; when that fails, each member alone, so that a bad one does not fail its neighbours. */
  async #settle(group: readonly Waiting<Member>[]): Promise<void> {
    try {
      const refused = await this.#options.commit(group.map(({ member }) => member));
      for (const { member, resolve } of group) resolve(refused?.has(member) !== true);
    } catch (error) {
      const [first, ...others] = group;
      if (others.length > 0 && !this.#options.failsAll(error)) {
        for (const waiting of group) await this.#settle([waiting]);
      } else if (error instanceof FenceRefused) {
        first?.resolve(false);
      } else {
        for (const { reject } of group) reject(error);
      }
    }
  }
}

const RETRY_PAUSE_MS = 500;

/**
 * For what must be written down though the database is away: tries until it succeeds, or fails for a reason of its own.
 * Gives up, with the last error, when `signal` aborts.
 */
export async function persist<T>(
  write: () => Promise<T>,
  isPassing: (error: unknown) => boolean,
  signal: AbortSignal,
): Promise<T> {
  for (;;) {
    try {
      return await write();
    } catch (error) {
      if (!isPassing(error) || signal.aborted) throw error;
      await setTimeoutPromise(RETRY_PAUSE_MS, undefined, { signal }).catch(() => undefined);
    }
  }
}
