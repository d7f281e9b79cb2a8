import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

/** A callback as it arrived. */
export interface Arrival {
  readonly headers: Record<string, string>;
  readonly body: string;
  readonly answered: number;
}

export interface Receiver {
  readonly url: string;
  /** The next callback; waits for it at most a minute. */
  next(): Promise<Arrival>;
  close(): Promise<void>;
}

const PATIENCE_MS = 60_000;

/** Listens on this machine; gives the answers in their order, then the last one for ever. */
export async function startReceiver(answers: readonly [number, ...number[]]): Promise<Receiver> {
  const arrivals: Arrival[] = [];
  let count = 0;
  let wake: (() => void) | undefined;
  const server = createServer((request, response) => {
    void text(request).then((body) => {
      const answered = answers[Math.min(count++, answers.length - 1)] ?? 200;
      response.writeHead(answered).end();
      arrivals.push({ headers: request.headers as Record<string, string>, body, answered });
      wake?.();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  async function next(): Promise<Arrival> {
    const { promise: tooLate, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => reject(new Error('no callback arrived within a minute')), PATIENCE_MS);
    try {
      while (arrivals.length === 0) {
        const arrival = Promise.withResolvers<void>();
        wake = arrival.resolve;
        await Promise.race([arrival.promise, tooLate]);
      }
      return arrivals.shift()!;
    } finally {
      clearTimeout(timer);
    }
  }

  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/callback`,
    next,
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
