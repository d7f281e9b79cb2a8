import { createHash, randomBytes } from 'node:crypto';
import { type Result, refuse } from '#domain/problem.ts';
import { findCompletion, offerCompletion } from '#store/completions.ts';
import type { RunRef } from '#store/run-queue.ts';
import { RunReports, type RunReportsDeps } from '../remote/run-reports.ts';

export type { RunRef };

const TOKEN_BYTES = 32;
const TOKEN = /^[\w-]{43}$/;

/**
 * One-time URLs under which a back end tells how its run ended, when it did not wait with its answer for that. The token in
 * the URL is all the authority there is: 32 random bytes, of which the database holds the hash. It is found through that
 * hash's index, so that nothing of it is compared byte by byte; it goes with the run.
 */
export class Completions {
  readonly reports: RunReports;
  readonly #deps: Omit<RunReportsDeps, 'holders'>;

  constructor(deps: Omit<RunReportsDeps, 'holders'>) {
    this.#deps = deps;
    // A back end may be done before its 202 has been read: the runner holds the run until then.
    this.reports = new RunReports({ ...deps, holders: ['runner', 'backend'] });
  }

  /** The URL for a run, to be passed to its back end. Undefined when the run is not the job's own any more. */
  async offer(run: RunRef): Promise<string | undefined> {
    const token = randomBytes(TOKEN_BYTES).toString('base64url');
    const offered = await offerCompletion(this.#deps.db.sql, run, hashOf(token));
    return offered ? `${this.#deps.publicUrl}/v1/completions/${token}` : undefined;
  }

  async find(token: string): Promise<Result<RunRef>> {
    const run = TOKEN.test(token) ? await findCompletion(this.#deps.db, hashOf(token)) : undefined;
    if (run !== undefined) return { ok: true, value: run };
    return refuse('completion_not_found', 'There is no such completion URL, or what it stood for is over.');
  }
}

function hashOf(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}
