import { setTimeout as setTimeoutPromise } from 'node:timers/promises';
import { isUnavailable } from './database.ts';
import { isContended, isTransient } from './transient.ts';

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
  failsAll: isUnavailable,
} as const satisfies Partial<GroupCommitOptions<never>>;

/** Members that met a lock are tried at once, each in a transaction of its own: as many as leave connections to the others. */
const MAX_ASIDE = 3;

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
  /** Where members wait that met somebody else's lock. */
  #aside: GroupCommit<Member> | undefined;

  constructor(options: GroupCommitOptions<Member>) {
    this.#options = options;
  }

  /**
   * True once the member's transaction has committed; false when it was refused. Rejects with its own error.
   * @param isAside for a member that met somebody else's lock: alone, and beside the groups, which must not wait with it
   */
  add(member: Member, isAside = false): Promise<boolean> {
    if (isAside) return this.#besides().add(member);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ member, resolve, reject });
      this.#schedule();
    });
  }

  /**
   * As `add`, but what may pass is tried again: rejects with an error that will not pass, or with the last one once `signal` aborts.
   * A member that was committed though its connection was lost first is refused the next time, and must be looked for.
   */
  persist(member: Member, signal: AbortSignal): Promise<boolean> {
    return persist((isAside) => this.add(member, isAside), isTransient, signal);
  }

  #besides(): GroupCommit<Member> {
    this.#aside ??= new GroupCommit({ ...this.#options, maxMembers: 1, maxTransactions: MAX_ASIDE, lingerMs: 0 });
    return this.#aside;
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
      if (others.length > 0 && isContended(error)) {
        // One of them met a lock, nobody knows which: it may take as long as a statement may, once for each that does.
        for (const { member, resolve, reject } of group) this.add(member, true).then(resolve, reject);
      } else if (others.length > 0 && !this.#options.failsAll(error)) {
        for (const waiting of group) await this.#settle([waiting]);
      } else if (error instanceof FenceRefused) {
        first?.resolve(false);
      } else {
        for (const { reject } of group) reject(error);
      }
    }
  }
}

const FIRST_PAUSE_MS = 100;
const LAST_PAUSE_MS = 1000;

/**
 * For what must be written down though the database is away or busy: tries until it succeeds, or fails for a reason that will not
 * pass. Pauses grow, and are spread so that what met each other does not meet again. Gives up, with the last error, when `signal`
 * aborts.
 * @param write gets true when somebody else's lock was what the last try met
 */
export async function persist<T>(
  write: (isContended: boolean) => Promise<T>,
  isPassing: (error: unknown) => boolean,
  signal: AbortSignal,
): Promise<T> {
  let wasContended = false;
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LAST_PAUSE_MS)) {
    try {
      return await write(wasContended);
    } catch (error) {
      if (!isPassing(error) || signal.aborted) throw error;
      wasContended = isContended(error);
      await setTimeoutPromise(pauseMs * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
    }
  }
}

/** Longer than a statement may wait for a lock, shorter than a client waits for its response. */
export const RETRY_WITHIN_MS = 10_000;

/** For what somebody waits for, who can send it again when the database is away: tries again only what met somebody else's lock. */
export function retryContended<T>(write: () => Promise<T>): Promise<T> {
  return persist(write, isContended, AbortSignal.timeout(RETRY_WITHIN_MS));
}
