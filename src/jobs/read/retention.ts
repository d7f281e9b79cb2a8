import type { Clock } from '#domain/clock.ts';
import { type AccountId, type DeliveryId, idBound, type JobId } from '#domain/ids.ts';
import type { Logger } from '#log.ts';
import { type Database, isUnavailable } from '#store/database.ts';
import {
  type AccountRetention,
  deleteNotices,
  findNextAccount,
  findOldJobs,
  type OldJob,
  retireJobs,
} from '#store/retention.ts';
import { deleteTombstones } from '#store/tombstones.ts';

export interface RetentionDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly log: Logger;
  /** For accounts whose row says nothing else. */
  readonly retentionDays: number;
  /** How much longer it is known that a job was. */
  readonly recordRetentionDays: number;
}

/** Jobs looked at, and taken away, in one statement at most. */
const BATCH = 500;
/** Of stored results; beyond, a batch ends early: a long transaction holds walks by change back. */
const BATCH_BYTES = 64 * 1024 * 1024;
/** One call takes a few seconds at most: a process that stops waits for it. */
const MOST_BATCHES = 40;
const DAY_MS = 86_400_000;

/** Retires jobs whose time is over, account by account. Any number of keepers may: twice at once does no harm. */
export class Retention {
  readonly #deps: RetentionDeps;
  #round: AsyncGenerator<number, void>;

  constructor(deps: RetentionDeps) {
    this.#deps = deps;
    this.#round = this.#goRound();
  }

  /** Goes on where the call before stopped, until it has been round all accounts or has done enough for one call. */
  async run(): Promise<void> {
    let jobs = 0;
    for (let batch = 0; batch < MOST_BATCHES; batch++) {
      const { done, value } = await this.#round.next();
      jobs += value ?? 0;
      if (done !== true) continue;
      this.#round = this.#goRound();
      break;
    }
    if (jobs > 0) this.#deps.log.info({ jobs }, 'retired');
  }

  /** Yields after each batch how many jobs it retired. */
  async *#goRound(): AsyncGenerator<number, void> {
    const { db, log } = this.#deps;
    for (let last: AccountId | '' = ''; ;) {
      const account: AccountRetention | undefined = await findNextAccount(db, last);
      if (account === undefined) return;
      last = account.accountId;
      try {
        yield* this.#retire(account);
        yield* this.#dropNotices(account);
        yield* this.#forget(account);
      } catch (error) {
        if (isUnavailable(error)) throw error;
        // One account's trouble must not keep the others'.
        log.error({ err: error, account_id: last }, 'retention');
      }
    }
  }

  async *#retire({ accountId, retentionDays }: AccountRetention): AsyncGenerator<number, void> {
    const { db } = this.#deps;
    const now = this.#deps.clock.now();
    const finishedBefore = daysBefore(now, retentionDays ?? this.#deps.retentionDays);
    const below = idBound('job', finishedBefore.getTime());
    for (let after: JobId = idBound('job', 0); ;) {
      const looked = await findOldJobs(db, accountId, { after, below, finishedBefore, limit: BATCH });
      const jobs = upTo(BATCH_BYTES, looked);
      const ids = jobs.filter(({ isDue }) => isDue).map(({ id }) => id);
      yield ids.length === 0 ? 0 : await retireJobs(db, accountId, { ids, finishedBefore, now });
      const last = jobs.at(-1);
      if (last === undefined || (jobs.length === looked.length && looked.length < BATCH)) return;
      after = last.id;
    }
  }

  /** What was told of endpoints and deliveries is kept as long as jobs are. */
  async *#dropNotices({ accountId, retentionDays }: AccountRetention): AsyncGenerator<number, void> {
    const below = idBound(
      'dlv',
      daysBefore(this.#deps.clock.now(), retentionDays ?? this.#deps.retentionDays).getTime(),
    );
    let after: DeliveryId | undefined = idBound('dlv', 0);
    while ((after = await deleteNotices(this.#deps.db, accountId, { after, below, limit: BATCH })) !== undefined)
      yield 0;
  }

  /** Tombstones, when even those have had their time. */
  async *#forget({ accountId, retentionDays }: AccountRetention): AsyncGenerator<number, void> {
    const days = (retentionDays ?? this.#deps.retentionDays) + this.#deps.recordRetentionDays;
    const below = idBound('job', daysBefore(this.#deps.clock.now(), days).getTime());
    while ((await deleteTombstones(this.#deps.db, accountId, { below, limit: BATCH })) === BATCH) yield 0;
  }
}

/** A time that dates can hold, however many days an account asks for. */
function daysBefore(now: Date, days: number): Date {
  return new Date(Math.max(0, now.getTime() - days * DAY_MS));
}

/** The first jobs whose results have no more bytes together; the first one in any case. */
function upTo(bytes: number, jobs: readonly OldJob[]): readonly OldJob[] {
  let sum = 0;
  const end = jobs.findIndex(({ isDue, resultBytes }, index) => isDue && (sum += resultBytes) > bytes && index > 0);
  return end === -1 ? jobs : jobs.slice(0, end);
}
