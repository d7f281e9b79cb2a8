import type { MiddlewareHandler } from 'hono';
import type { ApiKeyRecord, ApiKeys } from '#accounts/api-keys.ts';
import type { ApiKeyScope } from '#domain/api-key.ts';
import { databaseUnavailable } from '#domain/outage.ts';
import { refuse } from '#domain/problem.ts';
import type { Env } from '../env.ts';
import { type ErrorJudge, problem } from '../problem.ts';

const BEARER = /^Bearer +(\S+) *$/i;

/**
 * Lets in who has a key, to do what its scopes allow: `read` for GET and HEAD, `write` for the rest, and under /v1/worker,
 * where runs of every account are claimed, `worker` alone.
 */
export function authenticate(keys: ApiKeys, judge: Pick<ErrorJudge, 'isUnavailable'>): MiddlewareHandler<Env> {
  return async function authenticateRequest(c, next) {
    const header = c.req.header('authorization');
    if (header === undefined) {
      return problem(c, refuse('unauthenticated', 'Send an API key: Authorization: Bearer rbk_...'));
    }
    const token = BEARER.exec(header)?.[1];
    let apiKey: ApiKeyRecord | undefined;
    try {
      apiKey = token === undefined ? undefined : await keys.authenticate(token);
    } catch (error) {
      // Nothing of the request has been carried out yet, however the connection was lost.
      if (judge.isUnavailable(error)) return problem(c, databaseUnavailable());
      throw error;
    }
    if (apiKey === undefined) {
      return problem(
        c,
        refuse('unauthenticated', 'This is not a valid API key. Send it as: Authorization: Bearer rbk_...'),
      );
    }
    const scope = scopeFor(c.req.method, c.req.path);
    if (!apiKey.scopes.includes(scope)) {
      return problem(c, refuse('insufficient_scope', `This needs the scope "${scope}", which the key lacks.`));
    }
    c.set('apiKey', apiKey);
    return next();
  };
}

function scopeFor(method: string, path: string): ApiKeyScope {
  if (path.startsWith('/v1/worker/')) return 'worker';
  return method === 'GET' || method === 'HEAD' ? 'read' : 'write';
}
