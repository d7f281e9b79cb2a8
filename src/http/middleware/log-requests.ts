import { randomUUID } from 'node:crypto';
import type { MiddlewareHandler } from 'hono';
import { routePath } from 'hono/route';
import type { Logger } from '#log.ts';
import type { Env } from '../env.ts';

const REQUEST_ID = /^[\w.:-]{1,100}$/;

/** In the path, the token of a completion URL is a secret. */
const TOKEN = /^(\/v1\/completions\/)[^/]+/;

/** One line a request, with its decision. The route's pattern and path, never the query string or a body. */
export function logRequests(log: Logger): MiddlewareHandler<Env> {
  return async function logRequest(c, next) {
    const started = performance.now();
    const given = c.req.header('x-request-id');
    const requestId = given !== undefined && REQUEST_ID.test(given) ? given : randomUUID();
    c.set('requestId', requestId);
    c.header('x-request-id', requestId);
    await next();
    const { status } = c.res;
    log[status >= 500 ? 'error' : 'info'](
      {
        request_id: requestId,
        method: c.req.method,
        route: routePath(c, -1),
        path: c.req.path.replace(TOKEN, '$1...'),
        status,
        ...(c.get('problem') && { problem: c.get('problem') }),
        ...(c.get('apiKey') && { account_id: c.get('apiKey').accountId }),
        duration_ms: Math.round((performance.now() - started) * 100) / 100,
      },
      'request',
    );
  };
}
