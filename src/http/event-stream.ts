import type { FollowedItem } from '#jobs/wait/job-events.ts';
import type { RenderJob } from './job-representation.ts';

/** How long a client should wait before it connects again. */
const RETRY_MS = 1000;

/**
 * What happens to a job as server-sent events (HTML Living Standard, 9.2). An event on record carries its sequence as `id`,
 * for `Last-Event-ID` to name; progress carries none, and leaves the client's last id as it is.
 */
export async function* renderEventStream(
  items: AsyncIterable<FollowedItem>,
  renderJob: RenderJob,
): AsyncGenerator<Uint8Array, void, void> {
  const encoder = new TextEncoder();
  yield encoder.encode(`retry: ${RETRY_MS}\n\n`);
  for await (const item of items) yield encoder.encode(renderItem(item, renderJob));
}

/** JSON has no line breaks of its own: each `data` is one line. */
function renderItem(item: FollowedItem, renderJob: RenderJob): string {
  switch (item.kind) {
    case 'event': {
      const { id, type, sequence, createdAt: timestamp } = item.event;
      const head = JSON.stringify({ id, type, sequence, timestamp });
      return `id: ${sequence}\nevent: ${type}\ndata: ${withJob(head, renderJob(item.job).body)}\n\n`;
    }
    case 'progress': {
      const head = JSON.stringify({ type: 'job.progress', timestamp: item.job.updatedAt });
      return `event: job.progress\ndata: ${withJob(head, renderJob(item.job).body)}\n\n`;
    }
    case 'heartbeat':
      return ': still here\n\n';
    default:
      return item satisfies never;
  }
}

/** Spliced: the job is rendered already, once for everybody who follows it. */
function withJob(head: string, job: string): string {
  return `${head.slice(0, -1)},"job":${job}}`;
}
