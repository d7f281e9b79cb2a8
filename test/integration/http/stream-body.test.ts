import { once } from 'node:events';
import { type ClientRequest, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { Hono } from 'hono';
import { expect, onTestFinished, test } from 'vitest';
import type { Env } from '../../../src/http/env.ts';
import { listen } from '../../../src/http/server.ts';
import { streamBody } from '../../../src/http/stream-body.ts';
import { eventually } from '../../support/eventually.ts';

const PIECE = Buffer.alloc(256 * 1024, 'x');

/** A source that counts what is taken from it, and a client that has read the head of the response. */
async function send(source: () => AsyncGenerator<Uint8Array>, headers: Record<string, string> = {}) {
  const seen = { taken: 0, ended: false, failures: [] as unknown[] };
  let outgoing: ServerResponse | undefined;
  async function* counted(): AsyncGenerator<Uint8Array> {
    try {
      for await (const piece of source()) {
        seen.taken += 1;
        yield piece;
      }
    } finally {
      seen.ended = true;
    }
  }
  const app = new Hono<Env>().get('/', (c) => {
    ({ outgoing } = c.env as { outgoing: ServerResponse });
    return c.body(
      streamBody(c, counted(), (error) => seen.failures.push(error)),
      200,
      headers,
    );
  });
  const server = await listen({ host: '127.0.0.1', port: 0 });
  server.serve(app.fetch);
  onTestFinished(() => server.close(0));
  const asked: ClientRequest = request(server.url).end();
  asked.on('error', () => undefined);
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  return { seen, asked, response, outgoing: outgoing! };
}

async function read(response: IncomingMessage): Promise<number> {
  let bytes = 0;
  for await (const piece of response) bytes += (piece as Buffer).length;
  return bytes;
}

async function* pieces(count: number): AsyncGenerator<Uint8Array> {
  for (let n = 0; n < count; n++) yield PIECE;
}

test('a body comes whole', async () => {
  const { seen, response } = await send(() => pieces(50));
  expect(await read(response)).toBe(50 * PIECE.length);
  expect(seen).toEqual({ taken: 50, ended: true, failures: [] });
});

test('a source is read no further than its client reads', async () => {
  const { seen, response, outgoing } = await send(() => pieces(2000));
  response.pause();
  // What the sockets hold, and not half a gigabyte.
  let before = -1;
  await eventually(() => {
    const isStalled = outgoing.writableNeedDrain && before === seen.taken;
    before = seen.taken;
    expect(isStalled).toBe(true);
  });
  expect(seen.taken).toBeLessThan(200);
  expect(await read(response)).toBe(2000 * PIECE.length);
});

test('a source is ended when its client is gone', async () => {
  const { seen, asked } = await send(() => pieces(2000));
  asked.destroy();
  await eventually(() => expect(seen.ended).toBe(true));
  expect(seen.taken).toBeLessThan(2000);
  expect(seen.failures).toEqual([]);
});

test.each([
  ['of a length', { 'content-length': String(10 * PIECE.length) }],
  ['of no length', {}],
])(
  'a body %s whose source fails is cut off, and nothing is added to it',
  async (_, headers: Record<string, string>) => {
    const error = new Error('gone');
    const { seen, response } = await send(async function* source() {
      yield* pieces(3);
      throw error;
    }, headers);
    const text: string[] = [];
    const reading = (async () => {
      for await (const piece of response) text.push(String(piece));
    })();
    await expect(reading).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(text.join('').replaceAll('x', '')).toBe('');
    expect(seen.failures).toEqual([error]);
  },
);

test('without a server the stream itself fails', async () => {
  const app = new Hono<Env>().get('/', (c) => {
    const source = (async function* source() {
      yield PIECE;
      throw new Error('gone');
    })();
    return c.body(streamBody(c, source, () => undefined));
  });
  await expect((await app.request('/')).arrayBuffer()).rejects.toThrow('gone');
});
