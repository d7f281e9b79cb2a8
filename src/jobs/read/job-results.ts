import { createHash } from 'node:crypto';
import type { ByteRange } from '#domain/byte-range.ts';
import type { Database } from '#store/database.ts';
import type { JobRecord } from '#store/jobs.ts';
import { findResultBody, readChunk, type ResultKey } from '#store/result-chunks.ts';

/** A job's result, still to be read. */
export interface JobResult {
  readonly contentType: string;
  readonly bytes: number;
  readonly sha256: Uint8Array;
  /**
   * The bytes of a part, read no faster than they are taken; nothing is read before the first is asked for.
   * @throws ResultCutError when the result is removed meanwhile
   */
  readonly read: (range: ByteRange) => AsyncIterable<Uint8Array>;
}

/** A part of a result was not where it should be: what was read of it so far must not be taken for the whole. */
export class ResultCutError extends Error {
  override readonly name = 'ResultCutError';
}

/** The result of a job that succeeded; undefined when the job is gone by now. */
export async function openResult(db: Database, job: JobRecord): Promise<JobResult | undefined> {
  const body = await findResultBody(db, job.accountId, job.id);
  if (body === undefined) return undefined;
  const { resultRunId, resultType, resultBytes, resultSha256 } = job;
  if (resultRunId === null || resultType === null || resultBytes === null || resultSha256 === null)
    return inlineResult(body.outputText);
  if (body.chunkBytes === null) throw new ResultCutError(`the chunks of ${job.id} are gone`);
  const stored = { accountId: job.accountId, runId: resultRunId, bytes: resultBytes, chunkBytes: body.chunkBytes };
  return {
    contentType: resultType,
    bytes: resultBytes,
    sha256: resultSha256,
    read: (range) => readChunks(db, stored, range),
  };
}

function inlineResult(text: string | null): JobResult {
  const bytes = Buffer.from(text ?? 'null');
  return {
    contentType: 'application/json',
    bytes: bytes.length,
    sha256: createHash('sha256').update(bytes).digest(),
    read: async function* readText({ first, last }) {
      yield bytes.subarray(first, last + 1);
    },
  };
}

interface StoredChunks extends ResultKey {
  readonly bytes: number;
  /** Of every chunk but the last. */
  readonly chunkBytes: number;
}

/**
 * Read at once: as hex it is what one read of a socket holds, so that it need not be put together from several. What a result leaves
 * behind on its way here adds up faster than it is collected (docs/decisions/0014).
 */
export const READ_BYTES = 30 * 1024;

/**
 * Each piece is a statement of its own, so that a slow reader holds no connection. The next one is on its way while one is
 * taken: never more than two are in memory.
 */
async function* readChunks(db: Database, stored: StoredChunks, { first, last }: ByteRange): AsyncGenerator<Uint8Array> {
  if (last < first) return;
  let coming = readPiece(db, stored, first, last);
  for (let offset = first; offset <= last;) {
    const piece = await coming;
    offset += piece.length;
    if (offset <= last) {
      coming = readPiece(db, stored, offset, last);
      // A failure is thrown when that piece is asked for, if it is.
      coming.catch(() => undefined);
    }
    yield piece;
  }
}

/** From `offset` on, `last` at most; of the very length that it must have. */
async function readPiece(db: Database, stored: StoredChunks, offset: number, last: number): Promise<Uint8Array> {
  const number = Math.floor(offset / stored.chunkBytes);
  const from = offset % stored.chunkBytes;
  const length = Math.min(READ_BYTES, stored.chunkBytes - from, last + 1 - offset);
  const piece = await readChunk(db.sql, stored, { number, from, length });
  if (piece?.length !== length)
    throw new ResultCutError(
      `chunk ${number} of ${stored.runId} has ${piece?.length ?? 'no'} bytes, not ${length}, from ${from} on`,
    );
  return piece;
}
