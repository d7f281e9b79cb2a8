import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/**
 * Receives callbacks in a process of its own and answers 200. Tells its parent its port, then each arrival's path, at
 * once for `/one/...` (latency is measured on them) and otherwise the count so far, whenever it is asked.
 */
export type ReceiverMessage =
  | { readonly kind: 'port'; readonly port: number }
  | { readonly kind: 'one'; readonly at: number }
  | { readonly kind: 'count'; readonly count: number };

let count = 0;
const server = createServer((request, response) => {
  request.resume();
  request.on('end', () => {
    response.end();
    count += 1;
    if (request.url?.startsWith('/one') === true) send({ kind: 'one', at: performance.timeOrigin + performance.now() });
  });
});

function send(message: ReceiverMessage): void {
  process.send!(message);
}

server.listen(0, '127.0.0.1', () => send({ kind: 'port', port: (server.address() as AddressInfo).port }));
process.on('message', () => send({ kind: 'count', count }));
process.on('disconnect', () => process.exit(0));
