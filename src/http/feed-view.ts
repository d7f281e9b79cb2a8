import { memberText } from '#domain/json-text.ts';
import type { FeedEvent } from '#jobs/feed/event-feed.ts';

/** An event of the feed as clients see it: with what its callback says, if there is one, in the very same words. */
function feedEventJson({ id, type, jobId, sequence, createdAt, body }: FeedEvent): string {
  const view = {
    id,
    type,
    ...(jobId !== null && sequence !== null && { job_id: jobId, sequence }),
    ...momentOf(createdAt),
  };
  // Not in SQL: a body may hold U+0000, escaped, which PostgreSQL's json operators refuse.
  const data = body === null ? undefined : memberText(Buffer.from(body).toString(), 'data');
  return `${JSON.stringify(view).slice(0, -1)},"data":${data ?? 'null'}}`;
}

/** When an event occurred, under the name that lists have for such times and under the one that callbacks have for this one. */
export function momentOf(createdAt: Date) {
  return { created_at: createdAt, timestamp: createdAt };
}

const rendered = new WeakMap<FeedEvent, string>();

/** Renders each record once: all who follow the feed are handed the same one. */
export function renderFeedEvent(event: FeedEvent): string {
  const known = rendered.get(event);
  if (known !== undefined) return known;
  const text = feedEventJson(event);
  rendered.set(event, text);
  return text;
}
