import { Agent, get } from 'node:http';
import { text } from 'node:stream/consumers';

/**
 * Clients that wait, in a process of their own: each holds a connection with `Prefer: wait`, and asks again until its job is
 * over. Nothing goes anywhere but to the loopback address that they are given.
 */
export interface WaitOrder {
  readonly origin: string;
  readonly key: string;
  readonly jobs: readonly string[];
}

export type WaitMessage =
  /** Every request has been sent. */
  | { readonly kind: 'asked' }
  /** Each as soon as its client has read the answer. */
  | { readonly kind: 'told'; readonly job: string; readonly at: number; readonly finishedAt: number };

const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });

async function untilDone({ origin, key }: WaitOrder, job: string, onAsked: () => void): Promise<void> {
  for (;;) {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const headers = { authorization: `Bearer ${key}`, prefer: 'wait=60' };
    get(`${origin}/v1/jobs/${job}`, { agent, headers }, (response) => void text(response).then(resolve, reject))
      .on('error', reject)
      .on('finish', onAsked);
    const answer = JSON.parse(await promise) as { done: boolean; finished_at: string };
    if (!answer.done) continue;
    send({ kind: 'told', job, at: Date.now(), finishedAt: Date.parse(answer.finished_at) });
    return;
  }
}

function send(message: WaitMessage): void {
  process.send!(message);
}

process.on('message', (order: WaitOrder) => {
  if (!['127.0.0.1', 'localhost'].includes(new URL(order.origin).hostname)) throw new Error('loopback only');
  const asked = new Set<string>();
  for (const job of order.jobs) {
    const onAsked = () => {
      if (asked.size < order.jobs.length && asked.add(job).size === order.jobs.length) send({ kind: 'asked' });
    };
    untilDone(order, job, onAsked).catch((error: unknown) => {
      console.error(error);
      process.exit(1);
    });
  }
});
process.on('disconnect', () => process.exit(0));
