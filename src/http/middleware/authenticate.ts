import type { MiddlewareHandler } from 'hono';
import type { ApiKeys } from '#accounts/api-keys.ts';
import { refuse } from '#domain/problem.ts';
import type { Env } from '../env.ts';
import { problem } from '../problem.ts';

const BEARER = /^Bearer +(\S+) *$/i;

/** Lets in who has a key, to do what its scopes allow: `read` for GET and HEAD, `write` for the rest. */
export function authenticate(keys: ApiKeys): MiddlewareHandler<Env> {
  return async function authenticateRequest(c, next) {
    const header = c.req.header('authorization');
    if (header === undefined) {
      return problem(c, refuse('unauthenticated', 'Send an API key: Authorization: Bearer rbk_...'));
    }
    const token = BEARER.exec(header)?.[1];
    const apiKey = token === undefined ? undefined : await keys.authenticate(token);
    if (apiKey === undefined) {
      return problem(
        c,
        refuse('unauthenticated', 'This is not a valid API key. Send it as: Authorization: Bearer rbk_...'),
      );
    }
    const scope = c.req.method === 'GET' || c.req.method === 'HEAD' ? 'read' : 'write';
    if (!apiKey.scopes.includes(scope)) {
      return problem(c, refuse('insufficient_scope', `This needs the scope "${scope}", which the key lacks.`));
    }
    c.set('apiKey', apiKey);
    return next();
  };
}
