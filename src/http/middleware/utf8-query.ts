import type { Context } from 'hono';
import { type Fault, refuse, toPointer } from '#domain/problem.ts';
import type { Env } from '../env.ts';
import { problem } from '../problem.ts';

const ESCAPES = /(?:%[\da-f]{2})+/gi;

/**
 * Refuses a query whose percent-encoded bytes are not UTF-8. Behind us such a value would be taken for the text that spells
 * its bytes (`Jos%E9`), and a filter would look for that.
 */
export async function utf8Query(c: Context<Env>, next: () => Promise<void>): Promise<Response | void> {
  const { url } = c.req;
  const start = url.indexOf('?');
  if (start === -1 || !url.includes('%', start)) return next();
  const parameters = url.slice(start + 1).split('&');
  const faults = parameters.flatMap((parameter): Fault[] => {
    const escape = parameter.match(ESCAPES)?.find((text) => !isUtf8Escape(text));
    if (escape === undefined) return [];
    return [{ path: toPointer([parameter.split('=', 1)[0]!]), message: `${escape.slice(0, 60)} is not UTF-8` }];
  });
  if (faults.length === 0) return next();
  const detail = `Percent-encode UTF-8: ${faults.map(({ path, message }) => `${path} ${message}`).join('; ')}`;
  return problem(c, refuse('invalid_query', detail.slice(0, 500), { faults }));
}

function isUtf8Escape(text: string): boolean {
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
}
