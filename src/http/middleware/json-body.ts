import { isUtf8 } from 'node:buffer';
import type { Context, MiddlewareHandler } from 'hono';
import { type Result, refuse } from '#domain/problem.ts';
import { firstInvalidUtf8 } from '#domain/utf8.ts';
import type { Env } from '../env.ts';
import { problem, unsupportedMediaType } from '../problem.ts';

const JSON_TYPE = /^application\/(?:[\w.-]+\+)?json *(?:;|$)/i;
const CHARSET = /; *charset *= *"?([^\s";]*)/gi;
const UTF_8 = /^utf-?8$/i;

/**
 * Refuses a body that is not JSON in UTF-8, is encoded or is larger than `maxBytes`: by its header before it is read, where
 * that is possible. What passes is there as text, without a byte order mark.
 */
export function jsonBody(maxBytes: number): MiddlewareHandler<Env> {
  return async function checkJsonBody(c, next) {
    const type = c.req.header('content-type') ?? '';
    if (!JSON_TYPE.test(type)) return problem(c, unsupportedMediaType());
    if (type !== 'application/json') {
      const charset = [...type.matchAll(CHARSET)].find(([, name = '']) => !UTF_8.test(name))?.[1];
      if (charset !== undefined) return problem(c, unsupportedCharset(charset));
      // The validator behind us knows fewer spellings.
      c.req.raw.headers.set('content-type', 'application/json');
    }
    const encoding = c.req.header('content-encoding');
    if (encoding !== undefined && !/^(?:identity)?$/i.test(encoding.trim())) return unsupportedEncoding(c, encoding);
    const body = await readBody(c, maxBytes);
    if (!body.ok) return problem(c, body);
    const text = toText(body.value);
    if (!text.ok) return problem(c, text);
    // A promise, whatever its type says: the validator and the route take the body from there.
    Object.assign(c.req.bodyCache, { text: Promise.resolve(text.value) });
    return next();
  };
}

/** The same for a route whose body may be left out; what is there must be JSON, so that nothing is ignored. */
export function optionalJsonBody(maxBytes: number): MiddlewareHandler<Env> {
  const checkJsonBody = jsonBody(maxBytes);
  return async function checkOptionalJsonBody(c, next) {
    const length = c.req.header('content-length') ?? '0';
    if (length !== '0' || c.req.header('transfer-encoding') !== undefined) return checkJsonBody(c, next);
    // The validator behind us would parse what is not there.
    c.req.raw.headers.delete('content-type');
    return next();
  };
}

/** RFC 8259, 8.1: JSON between systems is UTF-8, and `application/json` has no charset parameter that could say otherwise. */
function unsupportedCharset(charset: string) {
  const detail = `Send JSON in UTF-8, as RFC 8259 (8.1) asks, not in ${JSON.stringify(charset.slice(0, 50))}.`;
  return refuse('unsupported_media_type', detail, { extra: { accepted_charsets: ['utf-8'] } });
}

/** RFC 7694: the response says in `Accept-Encoding` what a request may have. */
function unsupportedEncoding(c: Context<Env>, encoding: string) {
  const detail = `Send the body as it is, without Content-Encoding, not as ${JSON.stringify(encoding.slice(0, 50))}.`;
  const refusal = refuse('unsupported_media_type', detail, { extra: { accepted_encodings: ['identity'] } });
  return problem(c, refusal, { 'accept-encoding': 'identity' });
}

async function readBody(c: Context<Env>, maxBytes: number): Promise<Result<Buffer>> {
  const tooLarge = () =>
    refuse('body_too_large', `The body may have ${maxBytes} bytes at most.`, { extra: { max_bytes: maxBytes } });
  const length = c.req.header('content-length');
  const isCounted = length === undefined || c.req.header('transfer-encoding') !== undefined;
  if (!isCounted && Number(length) > maxBytes) return tooLarge();
  try {
    if (!isCounted) return { ok: true, value: Buffer.from(await c.req.raw.arrayBuffer()) };
    // A body that does not say how long it is; what is too much of it is left unread.
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of c.req.raw.body?.values({ preventCancel: true }) ?? []) {
      bytes += chunk.length;
      if (bytes > maxBytes) return tooLarge();
      chunks.push(chunk);
    }
    return { ok: true, value: Buffer.concat(chunks, bytes) };
  } catch {
    return refuse('malformed_request', 'The body broke off before its end. Send it again.');
  }
}

const BYTE_ORDER_MARK = '\ufeff';

function toText(bytes: Buffer): Result<string> {
  if (!isUtf8(bytes)) {
    const offset = firstInvalidUtf8(bytes);
    const found = `0x${bytes.toString('hex', offset, offset + 1).toUpperCase()} at offset ${offset}`;
    const detail = `The body is not UTF-8, as RFC 8259 (8.1) asks of JSON: the byte ${found} does not belong there.`;
    return refuse('malformed_json', detail, { extra: { offset } });
  }
  const text = bytes.toString();
  return { ok: true, value: text.startsWith(BYTE_ORDER_MARK) ? text.slice(1) : text };
}
