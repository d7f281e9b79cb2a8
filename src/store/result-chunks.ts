import type { AccountId, RunId } from '#domain/ids.ts';
import type { Connection } from './database.ts';

/** Bytes of every chunk of a result but the last. Twice that, as hex, passes through memory with each. */
export const CHUNK_BYTES = 256 * 1024;

export interface ResultKey {
  readonly accountId: AccountId;
  /** The run that made it. */
  readonly runId: RunId;
}

export async function insertChunk(sql: Connection, key: ResultKey, number: number, bytes: Uint8Array): Promise<void> {
  await sql`
    INSERT INTO ringback.result_chunks (account_id, run_id, number, bytes)
    VALUES (${key.accountId}, ${key.runId}, ${number}, ${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)})`;
}

/** One chunk; undefined beyond the last. */
export async function readChunk(sql: Connection, key: ResultKey, number: number): Promise<Uint8Array | undefined> {
  const [row] = await sql<{ bytes: Uint8Array }[]>`
    SELECT bytes FROM ringback.result_chunks
    WHERE account_id = ${key.accountId} AND run_id = ${key.runId} AND number = ${number}`;
  return row?.bytes;
}

/** Of a run whose result nobody will read. */
export async function deleteChunks(sql: Connection, key: ResultKey): Promise<void> {
  await sql`DELETE FROM ringback.result_chunks WHERE account_id = ${key.accountId} AND run_id = ${key.runId}`;
}
