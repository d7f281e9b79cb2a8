import type { Context } from 'hono';
import { memberText } from '#domain/json-text.ts';
import type { ReceivedJson } from '#jobs/run/handler.ts';

/**
 * Answers with JSON that is text already, for some of it is kept as it was sent. Typed as `never`: the compiler cannot hold text
 * against a route's schema.
 */
export function jsonText(c: Context, body: string, status: 200 | 201 | 202 = 200): never {
  return c.body(body, status, { 'content-type': 'application/json' }) as never;
}

/** A member of the body, as it was sent and as it was parsed. */
export async function receivedMember(c: Context, name: string, value: unknown): Promise<ReceivedJson> {
  return { text: memberText(await c.req.text(), name) ?? 'null', value };
}
