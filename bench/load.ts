import { Client } from 'undici';

/**
 * Load from a process of its own. Reads one order a line from its parent, answers each with one message.
 * Bounded by `requests`; nothing goes anywhere but to the loopback address it is given.
 */
export interface LoadOrder {
  readonly origin: string;
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly requests: number;
  readonly connections: number;
}

export interface LoadReport {
  readonly seconds: number;
  readonly byStatus: Readonly<Record<string, number>>;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

async function load(order: LoadOrder): Promise<LoadReport> {
  if (!['127.0.0.1', 'localhost'].includes(new URL(order.origin).hostname)) throw new Error('loopback only');
  const byStatus: Record<string, number> = {};
  const times: number[] = [];
  let left = order.requests;
  const started = performance.now();
  const work = async () => {
    const client = new Client(order.origin);
    while (left > 0) {
      left -= 1;
      const sentAt = performance.now();
      const { statusCode, body } = await client.request({
        method: order.method,
        path: order.path,
        headers: order.headers,
        body: order.body ?? null,
      });
      await body.dump();
      times.push(performance.now() - sentAt);
      byStatus[statusCode] = (byStatus[statusCode] ?? 0) + 1;
    }
    await client.close();
  };
  await Promise.all(Array.from({ length: order.connections }, work));
  const seconds = (performance.now() - started) / 1000;
  times.sort((a, b) => a - b);
  const at = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0;
  return { seconds, byStatus, p50Ms: at(0.5), p99Ms: at(0.99) };
}

process.on('message', (order: LoadOrder) => {
  load(order).then(
    (report) => process.send!(report),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
});
process.on('disconnect', () => process.exit(0));
