import type { Clock } from '#domain/clock.ts';
import type { EndedRunStatus, JobError, JobLogLevel, JobProgress, JobStatus } from '#domain/job.ts';
import { type Result, refuse } from '#domain/problem.ts';
import type { Logger } from '#log.ts';
import { appendLog, findHeldJob, type HeldJob } from '#store/held-runs.ts';
import { RETRY_WITHIN_MS, retryContended } from '#store/group-commit.ts';
import { deleteChunks } from '#store/result-chunks.ts';
import { type JobRef, renewLeases, type RunRef } from '#store/run-queue.ts';
import type { Endings } from '../run/endings.ts';
import { checkJson, type HandlerFailure, type ReceivedJson } from '../run/handler.ts';
import type { JobTypes } from '../type/job-types.ts';
import { recordEnd } from '../run/record-end.ts';
import type { RunOutcome } from '../run/run-end.ts';
import type { RunTeller } from '../run/run-teller.ts';
import { countOfLines, MAX_LINES, toLogLine } from '../run/run-log.ts';
import { type EndedRun, lookUpEnded, refuseEnded } from './run-record.ts';
import { type IncomingResult, RunUploads, type RunUploadsDeps } from './run-uploads.ts';

export interface RunReportsDeps extends RunUploadsDeps {
  readonly clock: Clock;
  readonly types: JobTypes;
  readonly endings: Endings;
  readonly log: Logger;
  readonly publicUrl: string;
  readonly jobsChanged: (jobs: readonly JobRef[]) => void;
  readonly teller: RunTeller;
  readonly announceRuns: (pool: string) => void;
}

export interface Lease {
  readonly leaseExpiresAt: Date;
  /** The job was called off: the run should stop. */
  readonly cancelRequested: boolean;
}

export interface SaidLine {
  readonly level: JobLogLevel;
  readonly message: string;
  readonly fields?: Readonly<Record<string, unknown>> | undefined;
  /** The fields as they were sent. */
  readonly fieldsText?: string | undefined;
}

export interface ReportedFailure {
  readonly error: JobError;
  readonly retryable: boolean;
  readonly retryAfterMs: number | null;
}

const TOO_MANY_LINES: SaidLine = { level: 'warn', message: `More lines were not kept: ${MAX_LINES} a run are.` };

/**
 * What whoever does the work elsewhere, a remote worker or a back end, tells of a run. Every report names the run, and the
 * run is the fence: once it is over or somebody else's, reports are refused. An end may be told again, should its answer
 * have been lost.
 */
export class RunReports {
  readonly #deps: RunReportsDeps;
  readonly #uploads: RunUploads;

  constructor(deps: RunReportsDeps) {
    this.#deps = deps;
    this.#uploads = new RunUploads(deps);
  }

  /** A sign of life: the lease lasts so long again, but no longer than the run may take. For workers only. */
  async heartbeat(run: RunRef, leaseMs: number): Promise<Result<Lease>> {
    const { db, clock } = this.#deps;
    const [renewed] = await retryContended(() =>
      renewLeases(db.sql, [run], { leaseMs, capped: true, now: clock.now() }),
    );
    return renewed === undefined ? refuseEnded(db, run) : { ok: true, value: renewed };
  }

  async progress(run: RunRef, progress: JobProgress): Promise<Result<undefined>> {
    const { db, teller } = this.#deps;
    if (!(await retryContended(() => teller.progress(run, progress)))) return refuseEnded(db, run);
    return { ok: true, value: undefined };
  }

  /** Answers how many of the lines were kept: beyond those that a run may have, one says that there were more. */
  async log(run: RunRef, said: readonly SaidLine[]): Promise<Result<{ kept: number }>> {
    const { db, clock, holders } = this.#deps;
    let kept = 0;
    const toLines = (runNumber: number, lastPosition: number | null) => {
      const before = countOfLines(runNumber, lastPosition);
      const wanted = said.slice(0, Math.max(0, MAX_LINES - before));
      kept = wanted.length;
      const last = kept < said.length && before <= MAX_LINES ? [TOO_MANY_LINES] : [];
      return [...wanted, ...last].map((line, index) => toLogLine(runNumber, before + index + 1, line, clock.now()));
    };
    const lines = await retryContended(() => appendLog(db, run, holders, toLines));
    return lines === undefined ? refuseEnded(db, run) : { ok: true, value: { kept } };
  }

  /** Ends the run well, with its output as JSON. */
  async complete(run: RunRef, output: ReceivedJson, signal: AbortSignal): Promise<Result<EndedRun>> {
    const { db, types, results } = this.#deps;
    const held = await this.#find(run);
    if (held === undefined) return lookUpEnded(db, run, ['succeeded']);
    const checked = await checkJson({ output: types.get(held.type)?.output }, output);
    if (checked.kind === 'failed') return this.#failForOutput(held, checked);
    if (results.fitsInline(checked.text))
      return this.#end(held, { kind: 'succeeded', outputText: checked.text, result: null }, ['succeeded']);
    const body = Buffer.from(checked.text);
    const incoming = { contentType: 'application/json', body: [body], bytes: body.length, sha256: null };
    return this.#completeWith(run, incoming, signal);
  }

  /**
   * Ends the run well, with a result of any size and content type: the upload is the completion. Not for a type that
   * promises what its output looks like: that cannot be checked as it passes by.
   */
  async upload(run: RunRef, incoming: IncomingResult, signal: AbortSignal): Promise<Result<EndedRun>> {
    const { db, types } = this.#deps;
    const held = await this.#find(run);
    if (held === undefined) return lookUpEnded(db, run, ['succeeded']);
    if (types.get(held.type)?.output === undefined) return this.#completeWith(run, incoming, signal);
    return refuse('invalid_body', `${held.type} has a schema for its output: complete the run with the output itself.`);
  }

  async #completeWith(run: RunRef, incoming: IncomingResult, signal: AbortSignal): Promise<Result<EndedRun>> {
    const stored = await this.#uploads.store(run, incoming, signal);
    if (stored?.ok === false) return stored;
    if (stored === undefined) return lookUpEnded(this.#deps.db, run, ['succeeded']);
    const { value: result } = stored;
    const held = await this.#find(run);
    const ended =
      held === undefined
        ? await lookUpEnded(this.#deps.db, run, ['succeeded'])
        : await this.#end(held, { kind: 'succeeded', outputText: null, result }, ['succeeded']);
    // Whatever ended the run in the meantime: what is not the job's result is not wanted.
    if (held === undefined || !ended.ok) await this.#uploads.abandon({ ...run, uploadId: result.uploadId });
    return ended;
  }

  /** Ends the run badly. Of a job that was called off it is no failure, but the stop that was asked for. */
  async fail(run: RunRef, failure: ReportedFailure): Promise<Result<EndedRun>> {
    return this.#giveUp(run, { kind: 'failed', ...failure }, ['failed', 'canceled']);
  }

  /** Gives the run back as if it had not been claimed: it counts for nothing, and another follows at once. */
  async release(run: RunRef): Promise<Result<EndedRun>> {
    return this.#giveUp(run, { kind: 'released' }, ['released', 'canceled']);
  }

  async #giveUp(run: RunRef, outcome: RunOutcome, same: readonly EndedRunStatus[]): Promise<Result<EndedRun>> {
    const held = await this.#find(run);
    if (held === undefined) return lookUpEnded(this.#deps.db, run, same);
    return this.#end(held, held.cancelRequestedAt === null ? outcome : { kind: 'canceled' }, same);
  }

  /** An output that the type does not promise would be no better the next time, and the job must not wait for it. */
  async #failForOutput(held: HeldJob, failure: HandlerFailure): Promise<Result<EndedRun>> {
    const ended = await this.#end(held, failure, []);
    if (!ended.ok) return ended;
    const { runStatus, jobStatus } = ended.value;
    return refuse('invalid_output', `${failure.error.message} The run has failed.`, {
      faults: (failure.faults ?? []).map((fault) => ({ ...fault, path: `/output${fault.path}` })),
      extra: { run_status: runStatus, job_status: jobStatus },
    });
  }

  /** The job as it is now: whether it was called off decides what follows. */
  async #find(run: RunRef): Promise<HeldJob | undefined> {
    const held = await findHeldJob(this.#deps.db, run);
    return held !== undefined && this.#deps.holders.includes(held.heldBy) ? held : undefined;
  }

  async #end(held: HeldJob, outcome: RunOutcome, same: readonly EndedRunStatus[]): Promise<Result<EndedRun>> {
    const { db, types, announceRuns } = this.#deps;
    const { accountId, id: jobId, runId } = held;
    const run = { accountId, jobId, runId };
    const type = types.get(held.type);
    // The work was done, though it could not be told when it was handed out.
    if (outcome.kind !== 'released') await this.#deps.teller.started(held, AbortSignal.abort());
    const signal = AbortSignal.timeout(RETRY_WITHIN_MS);
    const end = await recordEnd(() => Promise.resolve(held), outcome, this.#deps, { signal });
    if (end === undefined) return lookUpEnded(db, run, same);
    // Pieces of an upload that broke off with the process that took it, or of a result that could not be stored.
    const hasResult = outcome.kind === 'succeeded' && outcome.result !== null && end.runStatus === 'succeeded';
    if (held.uploadId !== null && !hasResult) await deleteChunks(db.sql, run);
    // Its place is free again, in this pool and, with limits by account, in others: those are left to the polls.
    if (type?.concurrency !== undefined) announceRuns(type.pool);
    const runStatus = end.runStatus ?? 'canceled';
    this.#logEnd(held, runStatus, end.jobStatus);
    if (end.runError?.code === 'end_not_stored' && outcome.kind === 'succeeded')
      return refuse('invalid_output', end.runError.message, {
        extra: { run_status: runStatus, job_status: end.jobStatus },
      });
    return { ok: true, value: { runId, runStatus, jobStatus: end.jobStatus } };
  }

  #logEnd(held: HeldJob, run: EndedRunStatus, job: JobStatus): void {
    this.#deps.log.info(
      {
        account_id: held.accountId,
        job_id: held.id,
        run_id: held.runId,
        type: held.type,
        number: held.runCount,
        worker_id: held.workerId,
        run,
        job,
        ...(held.runStartedAt && {
          duration_ms: Math.max(0, this.#deps.clock.now().getTime() - held.runStartedAt.getTime()),
        }),
      },
      'run',
    );
  }
}
