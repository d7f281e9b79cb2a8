import { isFinal } from '#domain/job.ts';
import type { Database } from '#store/database.ts';
import { type EventsWanted, type JobEventRecord, listEvents } from '#store/event-reads.ts';
import type { JobRecord } from '#store/jobs.ts';
import { Batches } from '../run/batches.ts';
import type { JobNews, JobWatch } from './job-watch.ts';

export type { JobEventRecord };

/** What somebody who follows a job is told. The job is as it is at that moment, not as it was when the event occurred. */
export type FollowedItem =
  | { readonly kind: 'event'; readonly event: JobEventRecord; readonly job: JobRecord }
  /** Not on record: the latest wins, whoever reads slowly misses those before. */
  | { readonly kind: 'progress'; readonly job: JobRecord }
  /** Nothing happened for a while. */
  | { readonly kind: 'heartbeat' };

/** Events of one job that are read at once. */
const PAGE = 200;
export const HEARTBEAT_MS = 15_000;
/** A key that is revoked must not be listened with for ever: whoever follows comes back with it. */
export const LONGEST_MS = 3_600_000;

export interface JobEventsDeps {
  readonly db: Database;
  readonly watch: JobWatch;
  readonly onError: (error: unknown) => void;
  readonly heartbeatMs?: number;
}

/** The events of jobs: those on record, and those to come. */
export class JobEvents {
  readonly #deps: JobEventsDeps;
  readonly #reads: Batches<EventsWanted, readonly JobEventRecord[]>;

  constructor(deps: JobEventsDeps) {
    this.#deps = deps;
    this.#reads = new Batches({ answer: (wanted) => readPages(deps.db, wanted), maxQuestions: 500, maxBatches: 2 });
  }

  /** Those on record after that sequence, in their order. */
  async list(job: JobRecord, after: number): Promise<JobEventRecord[]> {
    const events: JobEventRecord[] = [];
    for (let last = after; ;) {
      const page = await this.#reads.add(eventsOf(job, last));
      events.push(...page);
      if (page.length === 0) return events;
      last = page.at(-1)!.sequence;
    }
  }

  /**
   * Every event after that sequence as it goes on record, each once and in their order, and progress in between. Ends
   * after the job's last event; or sooner, without an error, when `signal` aborts, the process shuts down or the database
   * is away: who wants more asks again with the last sequence seen. Read no faster than it is taken, it holds the latest
   * state of the job and nothing else.
   * @param job as it was read before
   */
  async *follow(job: JobRecord, after: number, signal: AbortSignal): AsyncGenerator<FollowedItem, void, void> {
    const inbox = new Inbox(job);
    const leave = this.#deps.watch.watch(job, (news) => inbox.receive(news));
    const onAbort = () => inbox.receive({ kind: 'closing' });
    signal.addEventListener('abort', onAbort);
    if (signal.aborted) onAbort();
    try {
      yield* this.#follow(inbox, after);
    } catch (error) {
      this.#deps.onError(error);
    } finally {
      signal.removeEventListener('abort', onAbort);
      leave();
    }
  }

  async *#follow(inbox: Inbox, after: number): AsyncGenerator<FollowedItem, void, void> {
    const { heartbeatMs = HEARTBEAT_MS } = this.#deps;
    const endsAt = performance.now() + LONGEST_MS;
    let last = after;
    let shown: JobRecord['progress'] = null;
    while (!inbox.isOver && performance.now() < endsAt) {
      const { job } = inbox;
      // Never past the state at hand: an event goes out with a job that it has happened to already.
      const page = last < job.sequence ? await this.#reads.add(eventsOf(job, last)) : [];
      for (const event of page) {
        if (event.sequence > job.sequence) break;
        shown = inbox.job.progress;
        last = event.sequence;
        yield { kind: 'event', event, job: inbox.job };
      }
      if (inbox.job !== job || (last < job.sequence && page.length > 0)) continue;
      if (isFinal(job.status)) return;
      if (!isSameProgress(shown, job.progress)) {
        shown = job.progress;
        yield { kind: 'progress', job };
      }
      if (inbox.job === job && !(await inbox.hasNews(heartbeatMs))) yield { kind: 'heartbeat' };
    }
  }
}

function eventsOf({ accountId, id: jobId, createdAt: since }: JobRecord, after: number): EventsWanted {
  return { accountId, jobId, since, after };
}

/** One statement for what happened to many jobs at once; those who follow the same job from the same place share a page. */
async function readPages(
  db: Database,
  wanted: readonly EventsWanted[],
): Promise<ReadonlyArray<readonly JobEventRecord[]>> {
  const slots = wanted.map(({ jobId, after }) => `${jobId} ${after}`);
  const asked = new Map(wanted.map((page, index) => [slots[index]!, page]));
  const events = await listEvents(db, asked, PAGE);
  return slots.map((slot) => events.get(slot) ?? []);
}

/** Where a watcher leaves the latest state of a job for somebody who comes and looks. */
class Inbox {
  job: JobRecord;
  isOver = false;
  #wake: ((hasNews: boolean) => void) | undefined;

  constructor(job: JobRecord) {
    this.job = job;
  }

  receive(news: JobNews): void {
    if (news.kind === 'changed') this.job = news.job;
    else this.isOver = true;
    this.#wake?.(true);
  }

  /** True as soon as there is news; false when there was none for so long. */
  async hasNews(withinMs: number): Promise<boolean> {
    if (this.isOver) return true;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const timer = setTimeout(resolve, withinMs, false);
    this.#wake = resolve;
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#wake = undefined;
    }
  }
}

function isSameProgress(one: JobRecord['progress'], other: JobRecord['progress']): boolean {
  return one?.percent === other?.percent && one?.message === other?.message;
}
