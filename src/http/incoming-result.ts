import { type Fault, type Result, refuse } from '#domain/problem.ts';
import { isContentType } from '#jobs/handler.ts';
import type { IncomingResult } from '#jobs/run-uploads.ts';

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
  return { ok: true, value: { contentType, body: request.body ?? [], bytes, sha256 } };
}

/**
 * Reads on what is left of a body, so that a client that sends before it reads gets the answer and not a broken connection.
 * Not when it was too large: that would be a way to keep us busy.
 */
export async function readAway({ body }: Request, answer: Result<unknown>, maxBytes: number): Promise<void> {
  if (!answer.ok && answer.code === 'result_too_large') return;
  let bytes = 0;
  try {
    for await (const piece of body ?? []) if ((bytes += piece.length) > maxBytes) return;
  } catch {
    // It broke off.
  }
}
