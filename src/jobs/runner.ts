import { newId, uuidOf, type WorkerId } from '#domain/ids.ts';
import type { JobError, JobProgress } from '#domain/job.ts';
import type { Logger } from '#log.ts';
import { ClaimLoop } from '#queue/claim-loop.ts';
import type { Item, NewItem } from '#queue/item-queue.ts';
import { Leases } from '#queue/leases.ts';
import type { DeliveryItem, Queues, RunItem } from '#queue/queues.ts';
import { type Database, isUnavailable, transaction } from '#store/database.ts';
import { FenceRefused, GroupCommit, MEASURED_GROUPS, persist } from '#store/group-commit.ts';
import { claimRuns, type ClaimedJob, endRuns, recordLostRuns, type RunEnd, setProgress } from '#store/jobs.ts';
import { execute, type RunOutcome } from './execute.ts';
import type { JobTypes } from './job-types.ts';
import { ProgressReport } from './progress.ts';
import { decideRunEnd } from './run-end.ts';

/** A run that is ours to execute: the job, and the queue item that stands for it. */
interface ClaimedRun {
  readonly item: Item<RunItem>;
  readonly job: ClaimedJob;
}

interface EndedRun {
  readonly item: Item<RunItem>;
  readonly end: RunEnd;
}

export interface RunnerDeps {
  readonly db: Database;
  readonly queues: Queues;
  readonly types: JobTypes;
  readonly workerId: WorkerId;
  readonly log: Logger;
  readonly publicUrl: string;
  readonly concurrency: number;
  readonly pollMs: number;
  /** Called after a commit that queued deliveries. */
  readonly announceDeliveries: () => void;
}

/** A type that this process does not know may be known to the next one, in the middle of a roll-out. */
const UNKNOWN_TYPE_MAX_RUNS = 10;

/** Claims jobs, executes them, and records how each run ended. */
export class Runner {
  readonly loop: ClaimLoop<ClaimedRun>;
  readonly #deps: RunnerDeps;
  readonly #leases: Leases;
  readonly #endings: GroupCommit<EndedRun>;
  readonly #shutdown = new AbortController();

  constructor(deps: RunnerDeps) {
    this.#deps = deps;
    const onError = (error: unknown) => deps.log.error({ err: error }, 'runner');
    this.#leases = new Leases(deps.queues.runs, deps.db, onError);
    this.#endings = new GroupCommit<EndedRun>({
      ...MEASURED_GROUPS,
      commit: (ended) => this.#commit(ended),
    });
    this.loop = new ClaimLoop<ClaimedRun>({
      concurrency: deps.concurrency,
      pollMs: deps.pollMs,
      claim: (limit) => this.#claim(limit),
      work: (run) => this.#work(run),
      onError,
    });
  }

  start(): void {
    this.#leases.start();
    this.loop.start();
  }

  /** Claims no more and waits for what runs; after `graceMs` the rest is given back, as if it had not been claimed. */
  async stop(graceMs: number): Promise<void> {
    const timer = setTimeout(() => this.#shutdown.abort(), graceMs);
    await this.loop.stop();
    clearTimeout(timer);
    this.#leases.stop();
  }

  /** Claim and `in_progress` in one transaction. Items whose job has ended meanwhile leave the queue. */
  async #claim(limit: number): Promise<ClaimedRun[]> {
    const { db, queues, workerId } = this.#deps;
    return transaction(db, async (tx) => {
      const items = await queues.runs.claim(tx, limit);
      if (items.length === 0) return [];
      const startedAt = new Date();
      const claims = items.map(({ data, retryCount }) => ({
        ...data,
        runId: newId('run', startedAt.getTime()),
        eventId: newId('evt', startedAt.getTime()),
        workerId,
        startedAt,
        earlierLost: retryCount > 0,
      }));
      const lost = items.filter(({ retryCount }) => retryCount > 0);
      if (lost.length > 0)
        await recordLostRuns(
          tx,
          lost.map(({ data }) => ({ ...data, now: startedAt })),
        );
      const jobs = new Map((await claimRuns(tx, claims)).map((job) => [job.id, job]));
      const runs = items.map((item) => ({ item, job: jobs.get(item.data.jobId) }));
      const over = runs.filter(({ job }) => job === undefined).map(({ item }) => item);
      await queues.runs.remove(tx, over);
      return runs.filter((run): run is ClaimedRun => run.job !== undefined);
    });
  }

  async #work({ item, job }: ClaimedRun): Promise<void> {
    const { log, types, publicUrl } = this.#deps;
    const leaseLost = new AbortController();
    this.#leases.hold(item, () => leaseLost.abort());
    try {
      const { outcome, progress } = await this.#execute(job, leaseLost.signal);
      const maxRuns = types.get(job.type)?.maxRuns ?? UNKNOWN_TYPE_MAX_RUNS;
      const end = decideRunEnd({ ...job, progress }, outcome, {
        maxRuns,
        publicUrl,
        now: new Date(),
        random: Math.random(),
      });
      const isOurs = await persist(() => this.#endings.add({ item, end }), isUnavailable, this.#shutdown.signal);
      if (isOurs && end.delivery !== null) this.#deps.announceDeliveries();
      if (isOurs && end.nextRunAt !== null) this.loop.wakeAt(end.nextRunAt.getTime());
      log.info(
        {
          account_id: job.accountId,
          job_id: job.id,
          run_id: job.runId,
          type: job.type,
          number: job.runCount,
          run: isOurs ? end.runStatus : 'refused',
          job: end.jobStatus,
          ...(end.runError && { error: end.runError.code }),
          ...(end.nextRunAt && { next_run_at: end.nextRunAt }),
          duration_ms: end.endedAt.getTime() - job.runStartedAt.getTime(),
        },
        'run',
      );
    } finally {
      this.#leases.drop(item);
    }
  }

  /** Also answers the last progress reported: it is written with the run's end, however late it came. */
  async #execute(
    job: ClaimedJob,
    leaseLost: AbortSignal,
  ): Promise<{ outcome: RunOutcome; progress: JobProgress | null }> {
    const { db, log, types } = this.#deps;
    const refused = (error: JobError, retryable: boolean) => ({
      outcome: { kind: 'failed' as const, error, retryable },
      progress: job.progress,
    });
    const jobType = types.get(job.type);
    if (jobType === undefined) {
      const message = `This worker does not know the job type ${job.type}.`;
      return refused({ code: 'unknown_job_type', message }, true);
    }
    if (job.failureCount >= jobType.maxRuns) {
      const message = `Its worker died in each of ${job.failureCount} runs; it is not run again.`;
      return refused({ code: 'worker_lost', message }, false);
    }
    const run = { accountId: job.accountId, jobId: job.id, runId: job.runId };
    const progress = new ProgressReport(job.progress, (latest) =>
      setProgress(db.sql, run, latest, new Date()).catch((error: unknown) => log.warn({ err: error }, 'progress')),
    );
    const outcome = await execute({
      jobType,
      input: job.input,
      context: {
        progress: (percent, message) => progress.report(percent, message),
        job: { id: job.id, type: job.type, accountId: job.accountId },
        run: { id: job.runId, number: job.runCount },
      },
      shutdown: this.#shutdown.signal,
      leaseLost,
    });
    progress.end();
    return { outcome, progress: progress.latest };
  }

  /**
   * One transaction for many ended runs: jobs, runs, events, deliveries, and the queue items that follow. A run whose
   * lease was lost answers false, and nothing of it is written.
   */
  async #commit(ended: readonly EndedRun[]): Promise<void> {
    const { db, queues } = this.#deps;
    await transaction(db, async (tx) => {
      const [jobs, removed] = await Promise.all([
        endRuns(
          tx,
          ended.map(({ end }) => end),
        ),
        queues.runs.remove(
          tx,
          ended.map(({ item }) => item),
        ),
        queues.runs.insert(
          tx,
          ended.flatMap(({ item, end }) => followingRun(item, end)),
        ),
        queues.deliveries.insert(
          tx,
          ended.flatMap(({ end }) => firstAttempt(end)),
        ),
      ]);
      if (jobs.size !== ended.length || removed !== ended.length) throw new FenceRefused();
    });
  }
}

function followingRun(item: Item<RunItem>, end: RunEnd): Array<NewItem<RunItem>> {
  if (end.jobStatus !== 'in_progress') return [];
  return [{ id: uuidOf(newId('run', end.endedAt.getTime())), data: item.data, startAfter: end.nextRunAt }];
}

function firstAttempt({ accountId, event, delivery }: RunEnd): Array<NewItem<DeliveryItem>> {
  if (event === null || delivery === null) return [];
  const { id: deliveryId, endpointId } = delivery;
  return [{ id: uuidOf(deliveryId), data: { accountId, deliveryId, eventId: event.id, endpointId } }];
}
