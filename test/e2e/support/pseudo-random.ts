import { createCipheriv, createHash } from 'node:crypto';

/** So many bytes that no compression helps with, the same every time, in pieces. */
export async function* pseudoRandom(bytes: number, pieceBytes = 64 * 1024): AsyncGenerator<Buffer, void, void> {
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, 1), Buffer.alloc(16));
  const zeros = Buffer.alloc(pieceBytes);
  for (let left = bytes; left > 0; left -= pieceBytes)
    yield cipher.update(zeros.subarray(0, Math.min(pieceBytes, left)));
}

/** SHA-256 of what a source yields. */
export async function digestOf(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const hash = createHash('sha256');
  for await (const piece of source) hash.update(piece);
  return hash.digest();
}
