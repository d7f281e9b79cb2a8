import { createHash } from 'node:crypto';
import type { Database } from '#store/database.ts';
import type { StoredResult } from '#store/jobs.ts';
import { CHUNK_BYTES, deleteChunks, insertChunk, type ResultKey } from '#store/result-chunks.ts';
import { failureOf, type HandlerOutcome } from './handler.ts';
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

  constructor(db: Database, limits: ResultLimits) {
    this.#db = db;
    this.#limits = limits;
  }

  get maxBytes(): number {
    return this.#limits.maxBytes;
  }

  /** True for JSON that stands in the job itself. */
  fitsInline(text: string): boolean {
    return Buffer.byteLength(text) <= this.#limits.inlineBytes;
  }

  /** Never rejects. What is stored is the job's only once the run has ended well; until then nobody can see it. */
  async keep(key: ResultKey, outcome: HandlerOutcome, signal: AbortSignal): Promise<KeptOutcome> {
    if (outcome.kind !== 'value' && outcome.kind !== 'file') return outcome;
    if (outcome.kind === 'value' && this.fitsInline(outcome.text))
      return { kind: 'succeeded', outputText: outcome.text, result: null };
    const { contentType, body } =
      outcome.kind === 'file' ? outcome : { contentType: 'application/json', body: [Buffer.from(outcome.text)] };
    try {
      const stored = await this.store(key, body, signal);
      return { kind: 'succeeded', outputText: null, result: { contentType, ...stored } };
    } catch (error) {
      await deleteChunks(this.#db.sql, key).catch(() => undefined); // or with the job, later
      return failureOf(error);
    }
  }

  /**
   * Cuts a body into chunks and stores them as they come.
   * @param insert stores one chunk; throwing ends it all
   * @throws ResultTooLargeError, the signal's reason, or what the body or the database throws
   */
  async store(
    key: ResultKey,
    body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
    signal: AbortSignal,
    insert = (number: number, bytes: Uint8Array): Promise<void> => insertChunk(this.#db.sql, key, number, bytes),
  ): Promise<Omit<StoredResult, 'contentType'>> {
    const hash = createHash('sha256');
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
    let [filled, bytes, number] = [0, 0, 0];
    for await (const piece of body) {
      signal.throwIfAborted();
      if (!(piece instanceof Uint8Array)) throw new TypeError('a piece of the result is not bytes');
      bytes += piece.length;
      if (bytes > this.#limits.maxBytes) throw new ResultTooLargeError(this.#limits.maxBytes);
      hash.update(piece);
      for (let offset = 0; offset < piece.length;) {
        const taken = Math.min(CHUNK_BYTES - filled, piece.length - offset);
        chunk.set(piece.subarray(offset, offset + taken), filled);
        filled += taken;
        offset += taken;
        if (filled < CHUNK_BYTES) continue;
        await insert(number++, chunk);
        filled = 0;
      }
    }
    if (filled > 0 || number === 0) await insert(number, chunk.subarray(0, filled));
    return { bytes, sha256: hash.digest('hex') };
  }
}
