import { createHash } from 'node:crypto';
import type { Database } from '#store/database.ts';
import { persist } from '#store/group-commit.ts';
import type { StoredResult } from '#store/end-runs.ts';
import { CHUNK_BYTES, deleteChunks, insertChunk } from '#store/result-chunks.ts';
import type { RunRef } from '#store/run-queue.ts';
import { isTransient } from '#store/transient.ts';
import { failed, failureOf, type HandlerOutcome, RunFailedError } from './handler.ts';
import { interruptible } from './interruptible.ts';
import { ResultTooLargeError } from './result-too-large.ts';

/** A handler's outcome whose result is kept: inline in the job's row, or stored apart. */
export type KeptOutcome =
  | { readonly kind: 'succeeded'; readonly outputText: string | null; readonly result: StoredResult | null }
  | Exclude<HandlerOutcome, { readonly kind: 'value' | 'file' }>;

export interface ResultLimits {
  /** JSON up to this size stands in the job itself. */
  readonly inlineBytes: number;
  readonly maxBytes: number;
}

/** Stores results, whatever their size, with the memory of a few chunks. */
export class ResultKeeper {
  readonly #db: Database;
  readonly #limits: ResultLimits;
  readonly #onFault: (error: unknown) => void;

  /** @param onFault is told what the database refused; the client is not */
  constructor(db: Database, limits: ResultLimits, onFault: (error: unknown) => void = () => undefined) {
    this.#db = db;
    this.#limits = limits;
    this.#onFault = onFault;
  }

  get maxBytes(): number {
    return this.#limits.maxBytes;
  }

  /** True for JSON that stands in the job itself. */
  fitsInline(text: string): boolean {
    return Buffer.byteLength(text) <= this.#limits.inlineBytes;
  }

  /** Never rejects. What is stored is the job's only once the run has ended well; until then nobody can see it. */
  async keep(run: RunRef, outcome: HandlerOutcome, signal: AbortSignal): Promise<KeptOutcome> {
    if (outcome.kind !== 'value' && outcome.kind !== 'file') return outcome;
    if (outcome.kind === 'value' && this.fitsInline(outcome.text))
      return { kind: 'succeeded', outputText: outcome.text, result: null };
    const { contentType, body } =
      outcome.kind === 'file' ? outcome : { contentType: 'application/json', body: [Buffer.from(outcome.text)] };
    try {
      const stored = await this.store(run, body, signal);
      return { kind: 'succeeded', outputText: null, result: { contentType, ...stored } };
    } catch (error) {
      await deleteChunks(this.#db.sql, run).catch(this.#onFault);
      return failureOf(error);
    }
  }

  /**
   * Cuts a body into chunks and stores them as they come; waits where the database is away. Whoever calls it deletes what
   * it has stored by the time it throws.
   * @param insert stores one chunk; throwing ends it all. The chunk's bytes are the next one's once it resolves
   * @throws RunFailedError that says how the run has failed, the signal's reason, or what the body or `insert` throws
   */
  async store(
    run: RunRef,
    body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
    signal: AbortSignal,
    insert = (number: number, chunk: Uint8Array): Promise<void> => this.#insert(run, number, chunk, signal),
  ): Promise<Omit<StoredResult, 'contentType'>> {
    const hash = createHash('sha256');
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
    let [filled, bytes, number] = [0, 0, 0];
    const flush = async () => {
      const full = chunk.subarray(0, filled);
      // By the chunk: a piece of 100 MB would hold the event loop for long.
      hash.update(full);
      await insert(number++, full);
      filled = 0;
    };
    for await (const piece of interruptible(body, signal)) {
      if (!(piece instanceof Uint8Array))
        throw new RunFailedError(failed('invalid_output', 'A piece of the result is not bytes.', false));
      bytes += piece.length;
      if (bytes > this.#limits.maxBytes) throw new ResultTooLargeError(this.#limits.maxBytes);
      for (let offset = 0; offset < piece.length;) {
        const part = piece.subarray(offset, offset + CHUNK_BYTES - filled);
        chunk.set(part, filled);
        filled += part.length;
        offset += part.length;
        if (filled === CHUNK_BYTES) await flush();
      }
    }
    if (filled > 0 || number === 0) await flush();
    return { bytes, sha256: hash.digest('hex') };
  }

  async #insert(run: RunRef, number: number, chunk: Uint8Array, signal: AbortSignal): Promise<void> {
    const insert = () => insertChunk(this.#db.sql, run, number, chunk);
    const isOurs = await persist(insert, isTransient, signal).catch((error: unknown) => {
      this.#onFault(error);
      throw new RunFailedError(failed('handler_error', 'The result could not be stored.', true));
    });
    if (!isOurs) throw new RunFailedError(failed('worker_lost', 'The run is not the job’s own any more.', true));
  }
}
