import type { AccountId } from '#domain/ids.ts';
import { type Refusal, refuse } from '#domain/problem.ts';
import type { Database } from '#store/database.ts';
import { type Admitted, admitSubmissions, readSubmissionLimits, type SubmissionLimits } from '#store/quotas.ts';
import type { QueueDepth } from './queue-depth.ts';

/** How long an account's limits are believed without being read again. */
const REFRESH_MS = 10_000;
/** When a job of the account will end is not known: often enough to be soon, seldom enough to cost little. */
const PENDING_RETRY_S = 5;

/** For the headers `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers); null where there is no limit. */
export interface RateLimit {
  readonly submissions: {
    readonly perSecond: number;
    readonly remaining: number;
    /** Until a second's worth may be submitted at once again. */
    readonly resetSeconds: number;
  } | null;
  /** Jobs that have not ended. */
  readonly pending: { readonly max: number; readonly remaining: number } | null;
}

interface Waiting {
  readonly resolve: (refusal: Refusal | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Decides who may submit: not more than the account's limits allow, and nobody while too much waits. An account without
 * limits costs no statement; of one with limits, requests that come at once share one.
 */
export class Admission {
  readonly #db: Database;
  readonly #defaults: SubmissionLimits;
  readonly #depth: QueueDepth;
  readonly #onError: (error: unknown) => void;
  readonly #waiting = new Map<AccountId, Waiting[]>();
  readonly #left = new Map<AccountId, RateLimit>();
  #own: Promise<ReadonlyMap<AccountId, SubmissionLimits>> | undefined;
  #readAgainAt = 0;

  constructor(deps: {
    db: Database;
    defaults: SubmissionLimits;
    depth: QueueDepth;
    onError: (error: unknown) => void;
  }) {
    this.#db = deps.db;
    this.#defaults = deps.defaults;
    this.#depth = deps.depth;
    this.#onError = deps.onError;
  }

  /** The refusal of one submission, or undefined for one that may be stored. */
  async admit(accountId: AccountId): Promise<Refusal | undefined> {
    const full = await this.#depth.refusal();
    if (full !== undefined) return full;
    const limits = await this.#limitsOf(accountId);
    if (limits.perSecond === null && limits.maxPending === null) return undefined;
    return new Promise((resolve, reject) => {
      const waiting = this.#waiting.get(accountId);
      if (waiting !== undefined) {
        waiting.push({ resolve, reject });
        return;
      }
      this.#waiting.set(accountId, [{ resolve, reject }]);
      // One turn of the event loop: what was parsed together asks together.
      setImmediate(() => void this.#settle(accountId, limits));
    });
  }

  /** As of the account's last submission; undefined for one without limits. */
  rateLimit(accountId: AccountId): RateLimit | undefined {
    return this.#left.get(accountId);
  }

  async #settle(accountId: AccountId, limits: SubmissionLimits): Promise<void> {
    const waiting = this.#waiting.get(accountId)!.splice(0);
    try {
      const decided = await admitSubmissions(this.#db, accountId, waiting.length, limits);
      if (decided === undefined) throw new Error(`there is no account ${accountId}`);
      this.#remember(accountId, limits, decided);
      for (const [index, { resolve }] of waiting.entries())
        resolve(index < decided.admitted ? undefined : refusalOf(limits, decided));
    } catch (error) {
      for (const { reject } of waiting) reject(error);
    }
    // Those who came meanwhile share the next statement.
    if (this.#waiting.get(accountId)!.length > 0) setImmediate(() => void this.#settle(accountId, limits));
    else this.#waiting.delete(accountId);
  }

  #remember(accountId: AccountId, { perSecond, maxPending }: SubmissionLimits, decided: Admitted): void {
    const { admitted, room, remaining, fullInMs } = decided;
    const submissions =
      perSecond === null || remaining === null || fullInMs === null
        ? null
        : { perSecond, remaining: Math.max(0, remaining), resetSeconds: Math.ceil(fullInMs / 1000) };
    const pending =
      maxPending === null || room === null ? null : { max: maxPending, remaining: Math.max(0, room - admitted) };
    this.#left.set(accountId, { submissions, pending });
  }

  async #limitsOf(accountId: AccountId): Promise<SubmissionLimits> {
    const own = (await this.#ownLimits()).get(accountId);
    return {
      perSecond: own?.perSecond ?? this.#defaults.perSecond,
      maxPending: own?.maxPending ?? this.#defaults.maxPending,
    };
  }

  /** Read once before the first submission, then in the background. */
  #ownLimits(): Promise<ReadonlyMap<AccountId, SubmissionLimits>> {
    const now = performance.now();
    if (this.#own !== undefined && now < this.#readAgainAt) return this.#own;
    this.#readAgainAt = now + REFRESH_MS;
    const read = readSubmissionLimits(this.#db);
    const before = this.#own;
    this.#own = before === undefined ? read : before;
    read.then(
      () => (this.#own = read),
      (error: unknown) => {
        this.#onError(error);
        this.#own = before; // asked again with the next submission when there is nothing to go by
        if (before === undefined) this.#readAgainAt = 0;
      },
    );
    return this.#own;
  }
}

function refusalOf({ perSecond, maxPending }: SubmissionLimits, { room, admitted, fullInMs }: Admitted): Refusal {
  if (maxPending !== null && room !== null && room <= admitted) {
    const detail = `The account may have ${maxPending} jobs that have not ended. Wait for some to end, or cancel them.`;
    return refuse('too_many_jobs', detail, { retryAfter: PENDING_RETRY_S, extra: { max_pending: maxPending } });
  }
  const rate = perSecond ?? 1;
  const secondsWorth = Math.max(1, rate) / rate;
  const retryAfter = Math.max(1, Math.ceil((fullInMs ?? 0) / 1000 - secondsWorth + 1 / rate));
  const detail = `The account may submit ${perSecond} jobs a second. Send this one again in ${retryAfter} s.`;
  return refuse('too_many_submissions', detail, { retryAfter, extra: { submissions_per_second: perSecond } });
}
