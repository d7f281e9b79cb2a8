import type { FeedItem } from '#jobs/feed/event-feed.ts';
import type { FollowedItem } from '#jobs/wait/job-events.ts';
import { momentOf, renderFeedEvent } from './feed-view.ts';
import type { RenderJob } from './job-representation.ts';

export const STREAM_TYPE = 'text/event-stream';

/** The last two are for proxies: not to hold back what they have not all of, and not to change it. */
export const STREAM_HEADERS = {
  'content-type': STREAM_TYPE,
  'cache-control': 'no-store, no-transform',
  'x-accel-buffering': 'no',
};

/** How long a client should wait before it connects again. */
const RETRY_MS = 1000;

/**
 * What happens to a job as server-sent events (HTML Living Standard, 9.2). An event on record carries its sequence as `id`,
 * for `Last-Event-ID` to name; progress carries none, and leaves the client's last id as it is.
 */
export function renderEventStream(items: AsyncIterable<FollowedItem>, renderJob: RenderJob) {
  return renderStream(items, (item) => renderItem(item, renderJob));
}

/** An account's feed. A cursor is the `id`; without `data` it is no event, and moves the client's last id all the same. */
export function renderFeedStream(items: AsyncIterable<FeedItem>) {
  return renderStream(items, renderFeedItem);
}

async function* renderStream<Item>(
  items: AsyncIterable<Item>,
  render: (item: Item) => string,
): AsyncGenerator<Uint8Array, void, void> {
  const encoder = new TextEncoder();
  yield encoder.encode(`retry: ${RETRY_MS}\n\n`);
  for await (const item of items) yield encoder.encode(render(item));
}

function renderItem(item: FollowedItem, renderJob: RenderJob): string {
  switch (item.kind) {
    case 'event': {
      const { id, type, sequence, createdAt } = item.event;
      const head = JSON.stringify({ id, type, sequence, ...momentOf(createdAt) });
      return `id: ${sequence}\nevent: ${type}\n${dataLine(withJob(head, renderJob(item.job).body))}\n`;
    }
    case 'progress': {
      const head = JSON.stringify({ type: 'job.progress', ...momentOf(item.job.updatedAt) });
      return `event: job.progress\n${dataLine(withJob(head, renderJob(item.job).body))}\n`;
    }
    case 'heartbeat':
      return ': still here\n\n';
    default:
      return item satisfies never;
  }
}

function renderFeedItem(item: FeedItem): string {
  switch (item.kind) {
    case 'event':
      return `id: ${item.cursor}\nevent: ${item.event.type}\n${dataLine(renderFeedEvent(item.event))}\n`;
    case 'place':
      return `: still here\nid: ${item.cursor}\n\n`;
    default:
      return item satisfies never;
  }
}

/** One line, which is all that many clients read, though an output may have line breaks between its tokens. */
function dataLine(json: string): string {
  return `data: ${json.replaceAll(/[\r\n]/g, ' ')}\n`;
}

/** Spliced: the job is rendered already, once for everybody who follows it. */
function withJob(head: string, job: string): string {
  return `${head.slice(0, -1)},"job":${job}}`;
}
