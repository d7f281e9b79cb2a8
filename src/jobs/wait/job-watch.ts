import type { AccountId, JobId } from '#domain/ids.ts';
import type { ChangeListener, JobChanges } from '#queue/job-changes.ts';
import type { Database } from '#store/database.ts';
import { findChangedJobs, findJobs, type SeenJob } from '#store/job-reads.ts';
import type { JobRecord } from '#store/jobs.ts';

export type { JobRecord };

/** What a watcher hears; after `gone` and `closing` nothing more. */
export type JobNews =
  | { readonly kind: 'changed'; readonly job: JobRecord }
  /** There is no such job any more. */
  | { readonly kind: 'gone' }
  /** This process shuts down. */
  | { readonly kind: 'closing' };

/** Must not throw. */
export type Watcher = (news: JobNews) => void;

export type WatchedJob = Pick<JobRecord, 'accountId' | 'id'>;

export interface WaitOptions {
  /** As it was read before, if it was. */
  readonly known?: JobRecord;
  readonly until: (job: JobRecord) => boolean;
  readonly timeoutMs: number;
  /** Aborts when nobody wants to know any more. */
  readonly signal: AbortSignal;
}

/** What changes in this time is read together. */
const GATHER_MS = 5;
const READ_AT_ONCE = 1000;
const ERROR_PAUSE_MS = 500;
/** A process may die between its commit and its NOTIFY, or a connection in silence: then this is how late a watcher hears. */
const CHECK_EVERY_MS = 10_000;

interface Watched {
  readonly accountId: AccountId;
  readonly jobId: JobId;
  readonly watchers: Map<Watcher, WatcherState>;
  /** True when every watcher is to hear of it; otherwise only those are that have heard nothing yet. */
  hasChanged: boolean;
  /** As it was read last. */
  seen: JobRecord | undefined;
}

interface WatcherState {
  /** How many reads had begun when it came: those may show the job as it was before. */
  readonly since: number;
  hasHeard: boolean;
}

/**
 * All who wait for jobs in this process, in one place. What it costs depends on what changes, not on how many wait: the
 * jobs that changed in a moment are read with one statement, and each is handed to its watchers. While nothing changes,
 * one look in ten seconds at all that is watched is all there is.
 */
export class JobWatch implements ChangeListener {
  readonly #db: Database;
  readonly #changes: Pick<JobChanges, 'tell' | 'watching'>;
  readonly #onError: (error: unknown) => void;
  readonly #checkEveryMs: number;
  readonly #watched = new Map<string, Watched>();
  readonly #due = new Set<Watched>();
  #reads = 0;
  #readTimer: NodeJS.Timeout | undefined;
  #reading: Promise<void> | undefined;
  #checkTimer: NodeJS.Timeout | undefined;
  #checking: Promise<void> | undefined;
  #checkAgain = false;
  #isClosed = false;

  constructor(deps: {
    db: Database;
    changes: Pick<JobChanges, 'tell' | 'watching'>;
    onError: (error: unknown) => void;
    checkEveryMs?: number;
  }) {
    this.#db = deps.db;
    this.#changes = deps.changes;
    this.#onError = deps.onError;
    this.#checkEveryMs = deps.checkEveryMs ?? CHECK_EVERY_MS;
    this.#changes.tell(this);
  }

  /** Tells the job as it is in a moment, then after each change. Answers how to be left alone. */
  watch({ accountId, id }: WatchedJob, watcher: Watcher): () => void {
    if (this.#isClosed) {
      queueMicrotask(() => watcher({ kind: 'closing' }));
      return () => undefined;
    }
    const watched = this.#watched.get(id) ?? this.#begin(accountId, id);
    watched.watchers.set(watcher, { since: this.#reads, hasHeard: false });
    this.#readSoon(watched);
    return () => {
      if (watched.watchers.delete(watcher) && watched.watchers.size === 0) this.#end(watched);
    };
  }

  /**
   * Waits until the job is as wanted, the time is up, nobody wants to know any more, or the process shuts down; answers
   * it as it is then. Undefined once it is gone, and when it is not known.
   */
  async wait(ref: WatchedJob, { known, until, timeoutMs, signal }: WaitOptions): Promise<JobRecord | undefined> {
    if ((known !== undefined && until(known)) || signal.aborted || timeoutMs <= 0) return known;
    const { promise, resolve } = Promise.withResolvers<JobRecord | undefined>();
    let latest = known;
    const answer = () => resolve(latest);
    const leave = this.watch(ref, (news) => {
      latest = news.kind === 'changed' ? news.job : news.kind === 'gone' ? undefined : latest;
      if (news.kind !== 'changed' || until(news.job)) answer();
    });
    const timer = setTimeout(answer, timeoutMs);
    signal.addEventListener('abort', answer);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', answer);
      leave();
    }
  }

  changed(jobIds: Iterable<string>): void {
    if (this.#watched.size === 0) return;
    for (const jobId of jobIds) {
      const watched = this.#watched.get(jobId);
      if (watched === undefined) continue;
      watched.hasChanged = true;
      this.#readSoon(watched);
    }
  }

  /** Looks at all that is watched. */
  missed(): void {
    this.#checkAgain = true;
    this.#checking ??= this.#checkAll().finally(() => (this.#checking = undefined));
  }

  /** Lets everybody go; resolves when no statement is under way. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#readTimer);
    for (const watched of this.#watched.values()) {
      for (const watcher of watched.watchers.keys()) watcher({ kind: 'closing' });
      this.#end(watched);
    }
    await Promise.all([this.#reading, this.#checking]);
  }

  #begin(accountId: AccountId, jobId: JobId): Watched {
    const watched = { accountId, jobId, watchers: new Map(), hasChanged: false, seen: undefined };
    if (this.#watched.size === 0) {
      this.#changes.watching(true);
      this.#checkTimer = setInterval(() => this.missed(), this.#checkEveryMs);
    }
    this.#watched.set(jobId, watched);
    return watched;
  }

  #end(watched: Watched): void {
    this.#due.delete(watched);
    if (this.#watched.get(watched.jobId) !== watched) return;
    this.#watched.delete(watched.jobId);
    if (this.#watched.size > 0) return;
    clearInterval(this.#checkTimer);
    this.#changes.watching(false);
  }

  #readSoon(watched: Watched): void {
    this.#due.add(watched);
    this.#schedule(GATHER_MS);
  }

  /** One read at a time: what changes meanwhile is read by the next one. */
  #schedule(afterMs: number): void {
    if (this.#readTimer !== undefined || this.#reading !== undefined || this.#due.size === 0) return;
    this.#readTimer = setTimeout(() => {
      this.#readTimer = undefined;
      this.#reading = this.#readDue().then((pauseMs) => {
        this.#reading = undefined;
        this.#schedule(pauseMs);
      });
    }, afterMs);
  }

  /** Answers how long to wait before the next read. */
  async #readDue(): Promise<number> {
    const read = ++this.#reads;
    const due = [...this.#due].slice(0, READ_AT_ONCE).map((watched) => ({ watched, hasChanged: watched.hasChanged }));
    for (const { watched } of due) {
      // What changes from here on is due again: this read may have come too early for it.
      this.#due.delete(watched);
      watched.hasChanged = false;
    }
    try {
      const jobs = await findJobs(
        this.#db,
        due.map(({ watched }) => watched),
      );
      const byId = new Map(jobs.map((job) => [job.id, job]));
      for (const { watched, hasChanged } of due) this.#tell(watched, byId.get(watched.jobId), { read, hasChanged });
      return due.length < READ_AT_ONCE ? GATHER_MS : 0;
    } catch (error) {
      this.#onError(error);
      this.changed(due.map(({ watched }) => watched.jobId));
      return ERROR_PAUSE_MS;
    }
  }

  #tell(
    watched: Watched,
    job: JobRecord | undefined,
    { read, hasChanged }: { read: number; hasChanged: boolean },
  ): void {
    const news: JobNews = job === undefined ? { kind: 'gone' } : { kind: 'changed', job };
    const isNew = hasChanged || job === undefined || watched.seen === undefined || !isSame(watched.seen, job);
    watched.seen = job;
    for (const [watcher, state] of watched.watchers) {
      if (state.since >= read || (state.hasHeard && !isNew)) continue;
      state.hasHeard = true;
      watcher(news);
    }
  }

  async #checkAll(): Promise<void> {
    while (this.#checkAgain && !this.#isClosed) {
      this.#checkAgain = false;
      const seen = [...this.#watched.values()].flatMap(({ seen: job }) => job ?? []).map(asSeen);
      try {
        for (let start = 0; start < seen.length; start += READ_AT_ONCE)
          this.changed(await findChangedJobs(this.#db, seen.slice(start, start + READ_AT_ONCE)));
      } catch (error) {
        this.#onError(error);
      }
    }
  }
}

function asSeen({ accountId, id: jobId, sequence, updatedAt }: JobRecord): SeenJob {
  return { accountId, jobId, sequence, updatedAt };
}

function isSame(one: JobRecord, other: JobRecord): boolean {
  return one.sequence === other.sequence && one.updatedAt.getTime() === other.updatedAt.getTime();
}
