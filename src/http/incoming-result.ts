import type { Context } from 'hono';
import { type Fault, type Result, refuse } from '#domain/problem.ts';
import { isContentType } from '#jobs/run/handler.ts';
import type { IncomingResult } from '#jobs/remote/run-uploads.ts';
import type { Env } from './env.ts';

const SHA_256 = /^sha-256 *= *:([A-Za-z0-9+/]{43}=): *(?:;.*)?$/;

/** The hex of a SHA-256 in a digest field (RFC 9530); null when it names other algorithms only; undefined when it is none. */
function sha256Of(field: string): string | null | undefined {
  const members = field.split(',').map((member) => member.trim());
  const member = members.find((text) => /^sha-256\b/.test(text));
  if (member === undefined) return members.every((text) => /^[a-z0-9-]+ *= *:/.test(text)) ? null : undefined;
  const digest = SHA_256.exec(member)?.[1];
  return digest === undefined ? undefined : Buffer.from(digest, 'base64').toString('hex');
}

/** A result as a request brings it, or what is wrong with the request's fields; the body is left alone. */
export function incomingResult(request: Request): Result<IncomingResult> {
  const { headers } = request;
  const faults: Fault[] = [];
  const refuseField = (name: string, message: string) => void faults.push({ path: `/${name}`, message });
  const contentType = headers.get('content-type') ?? 'application/octet-stream';
  if (!isContentType(contentType)) refuseField('content-type', 'is not a content type');
  // What is stored is what is sent on, under its content type alone.
  if (headers.has('content-encoding')) refuseField('content-encoding', 'is not supported: send the result as it is');
  // RFC 9110, 14.5: whoever does not understand it must not take the part for the whole.
  if (headers.has('content-range')) refuseField('content-range', 'is not supported: send the whole result');
  let sha256: string | null = null;
  for (const name of ['content-digest', 'repr-digest']) {
    const digest = headers.has(name) ? sha256Of(headers.get(name) ?? '') : null;
    if (digest === undefined) refuseField(name, 'must look like sha-256=:<base64>:');
    else if (digest !== null && sha256 !== null && digest !== sha256)
      refuseField(name, 'is another than content-digest');
    else sha256 ??= digest;
  }
  if (faults.length > 0)
    return refuse('invalid_body', faults.map(({ path, message }) => `${path} ${message}`).join('; '), { faults });
  const length = headers.get('content-length');
  const bytes = length === null ? undefined : Number(length);
  return { ok: true, value: { contentType, body: piecesOf(request), bytes, sha256 } };
}

/**
 * The body, which nobody touches before it is wanted. Who stops in the middle leaves the rest to be read away: a stream that
 * is canceled would stay paused, and the server cut its connection half a second later, in the middle of the next request.
 */
async function* piecesOf({ body }: Request): AsyncIterable<Uint8Array> {
  if (body !== null) yield* body.values({ preventCancel: true });
}

/** Beyond what a result may have. */
const MAX_TOO_LARGE_BYTES = 16 * 1024 * 1024;

/**
 * Reads what is left of a body, so that a client that sends before it reads gets the answer and not a broken connection.
 * Not of one that said itself how much too large it is: it is told at once, and its connection is closed.
 */
export async function readAway(c: Context<Env>, answer: Result<unknown>, maxBytes: number): Promise<void> {
  const { raw } = c.req;
  const isTooLarge = !answer.ok && answer.code === 'result_too_large';
  if (isTooLarge && raw.headers.has('content-length')) {
    c.header('connection', 'close');
    return;
  }
  const most = isTooLarge ? MAX_TOO_LARGE_BYTES : maxBytes;
  let bytes = 0;
  try {
    for await (const piece of piecesOf(raw)) if ((bytes += piece.length) > most) return;
  } catch {
    // It broke off.
  }
}
