import type { MiddlewareHandler } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { refuse } from '#domain/problem.ts';
import type { Env } from '../env.ts';
import { problem, unsupportedMediaType } from '../problem.ts';

const JSON_TYPE = /^application\/(?:[\w.-]+\+)?json *(?:;|$)/i;

/** Refuses, before it is read, a body that is not JSON or is larger than `maxBytes`. */
export function jsonBody(maxBytes: number): MiddlewareHandler<Env> {
  const tooLarge = refuse('body_too_large', `The body may have ${maxBytes} bytes at most.`, {
    extra: { max_bytes: maxBytes },
  });
  // Counts the bytes of a body that does not say how long it is.
  const counted = bodyLimit({ maxSize: maxBytes, onError: (c) => problem(c, tooLarge) });
  return async function checkJsonBody(c, next) {
    const type = c.req.header('content-type') ?? '';
    if (!JSON_TYPE.test(type)) return problem(c, unsupportedMediaType());
    // The validator behind us knows fewer spellings.
    if (type !== 'application/json') c.req.raw.headers.set('content-type', 'application/json');
    const length = c.req.header('content-length');
    if (length === undefined || c.req.header('transfer-encoding') !== undefined) return counted(c, next);
    if (Number(length) > maxBytes) return problem(c, tooLarge);
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
