import { randomUUID } from 'node:crypto';
import type { RunHolder } from '#domain/run-holder.ts';
import { type Refusal, type Result, refuse } from '#domain/problem.ts';
import type { Database } from '#store/database.ts';
import { findHeldJob } from '#store/held-runs.ts';
import type { StoredResult } from '#store/end-runs.ts';
import type { RunRef } from '#store/run-queue.ts';
import { abandonUpload, beginUpload, insertUploadedChunk, type Upload } from '#store/uploads.ts';
import type { ResultKeeper } from '../run/result-keeper.ts';
import { ResultTooLargeError } from '../run/result-too-large.ts';

/** A result as it comes in. */
export interface IncomingResult {
  readonly contentType: string;
  /** To be read once, to its end. */
  readonly body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
  /** As its sender says, if it does. */
  readonly bytes: number | undefined;
  /** Hex, as its sender says; null when it does not. */
  readonly sha256: string | null;
}

interface UploadedResult extends StoredResult {
  readonly uploadId: string;
}

export interface RunUploadsDeps {
  readonly db: Database;
  readonly results: ResultKeeper;
  /** Who may hold the runs that results are stored for. */
  readonly holders: readonly RunHolder[];
}

/** The run ended, or another upload for it began. */
class SupersededError extends Error {}

/** Whoever sends the result stopped in the middle of it. */
class BrokenBodyError extends Error {}

/** Stores results that come from outside, with the memory of a few chunks. */
export class RunUploads {
  readonly #deps: RunUploadsDeps;

  constructor(deps: RunUploadsDeps) {
    this.#deps = deps;
  }

  /**
   * What it answers is the job's only once the run has ended with it. A refusal leaves the run under way, and nothing
   * stored: the result may be sent again. Undefined when the run is not under way.
   * @param signal aborts when nobody sends any more
   * @throws what the database throws
   */
  async store(run: RunRef, incoming: IncomingResult, signal: AbortSignal): Promise<Result<UploadedResult> | undefined> {
    const { db, results, holders } = this.#deps;
    const { contentType, body, bytes = 0, sha256 } = incoming;
    if (bytes > results.maxBytes) return tooLarge(results.maxBytes);
    const upload = { ...run, uploadId: randomUUID() };
    if (!(await beginUpload(db, upload, holders))) return undefined;
    try {
      const insert = (number: number, chunk: Uint8Array) => this.#insert(upload, number, chunk);
      const stored = await results.store(run, arriving(body), signal, insert);
      if (sha256 === null || sha256 === stored.sha256)
        return { ok: true, value: { contentType, ...stored, uploadId: upload.uploadId } };
      await this.abandon(upload);
      return refuse('invalid_body', `What arrived has another digest, sha-256 ${stored.sha256}. Send it again.`);
    } catch (error) {
      await this.abandon(upload);
      if (error instanceof SupersededError) return this.#superseded(run);
      if (error instanceof ResultTooLargeError) return tooLarge(results.maxBytes);
      if (signal.aborted || error instanceof BrokenBodyError)
        return refuse('malformed_request', 'The result broke off. Send it again.');
      throw error;
    }
  }

  /** For one whose result is not wanted after all. */
  async abandon(upload: Upload): Promise<void> {
    // What stays because the database is away goes when the run is sent again, fails, or is rescued.
    await abandonUpload(this.#deps.db.sql, upload).catch(() => undefined);
  }

  async #insert(upload: Upload, number: number, chunk: Uint8Array): Promise<void> {
    if (!(await insertUploadedChunk(this.#deps.db.sql, upload, number, chunk))) throw new SupersededError();
  }

  async #superseded(run: RunRef): Promise<Refusal | undefined> {
    if ((await findHeldJob(this.#deps.db, run)) === undefined) return undefined;
    return refuse('run_superseded', 'A later upload of a result for this run takes the place of this one.');
  }
}

async function* arriving(body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): AsyncIterable<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    throw new BrokenBodyError('the body broke off', { cause: error });
  }
}

function tooLarge(maxBytes: number): Refusal {
  return refuse(
    'result_too_large',
    `A result may have ${maxBytes} bytes at most. The run goes on: fail it, or send less.`,
    {
      extra: { max_bytes: maxBytes },
    },
  );
}
