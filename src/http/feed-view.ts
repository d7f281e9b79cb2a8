import type { FeedEvent } from '#jobs/feed/event-feed.ts';

/** An event of the feed as clients see it: with what its callback says, if there is one. */
export function viewFeedEvent({ id, type, jobId, sequence, createdAt, body }: FeedEvent) {
  return {
    id,
    type,
    ...(jobId !== null && sequence !== null && { job_id: jobId, sequence }),
    created_at: createdAt,
    data: body === null ? null : dataOf(body),
  };
}

/** Not in SQL: a body may hold U+0000, escaped, which PostgreSQL's json operators refuse. */
function dataOf(body: Uint8Array): Record<string, unknown> | null {
  const payload = JSON.parse(Buffer.from(body).toString()) as { data?: Record<string, unknown> };
  return payload.data ?? null;
}

const rendered = new WeakMap<FeedEvent, string>();

/** Renders each record once: all who follow the feed are handed the same one. */
export function renderFeedEvent(event: FeedEvent): string {
  const known = rendered.get(event);
  if (known !== undefined) return known;
  const text = JSON.stringify(viewFeedEvent(event));
  rendered.set(event, text);
  return text;
}
