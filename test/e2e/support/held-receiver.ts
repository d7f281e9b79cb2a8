import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished } from 'vitest';
import { eventually } from '../../support/eventually.ts';

export interface HeldReceiver {
  readonly url: string;
  /** `webhook-id` of every request so far, in their order. */
  readonly seen: readonly string[];
  /** Waits until so many have come. */
  waitFor(count: number): Promise<void>;
  /** Answers those that wait, and from now on all others at once, with 200 and `body`. */
  release(body: string): void;
}

/** A receiver that takes requests and answers none before it is told to. */
export async function startHeldReceiver(): Promise<HeldReceiver> {
  const seen: string[] = [];
  const waiting = new Set<ServerResponse>();
  let answer: string | undefined;
  const server = createServer((request, response) => {
    seen.push(String(request.headers['webhook-id']));
    request.resume();
    response.on('close', () => waiting.delete(response));
    if (answer === undefined) waiting.add(response);
    else response.end(answer);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(async () => {
    const closed = once(server, 'close');
    server.close();
    server.closeAllConnections();
    await closed;
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/held`,
    seen,
    waitFor: (count) => eventually(() => expect(seen.length).toBeGreaterThanOrEqual(count)),
    release: (body) => {
      answer = body;
      for (const response of waiting) response.end(body);
    },
  };
}
