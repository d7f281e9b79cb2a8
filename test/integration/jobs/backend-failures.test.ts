import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { makeClient } from '../egress/backends.ts';
import { flood, listenRaw } from '../egress/receivers.ts';
import { answering, callReceiver, failure, NOW } from './backend-calls.ts';

describe('a status', () => {
  test.each([408, 425, 429, 500, 501, 502, 503, 504, 505, 507, 599])(
    'of %i fails the run, to be tried again',
    async (status) => {
      const receiver = await answering(status);
      const message = `The back end answered ${status}.`;
      expect(await callReceiver(receiver)).toEqual(failure('backend_unavailable', true, message));
    },
  );

  test.each([400, 401, 403, 404, 409, 410, 413, 422, 451])('of %i fails the job', async (status) => {
    const receiver = await answering(status);
    expect(await callReceiver(receiver)).toEqual(
      failure('backend_rejected', false, `The back end answered ${status}.`),
    );
  });

  test.each([301, 302, 303, 304, 307, 308])('of %i is not followed', async (status) => {
    const receiver = await answering(status, { location: '/?token=secret' });
    const message = `The back end answered ${status}; redirects are not followed: configure the final URL.`;
    expect(await callReceiver(receiver)).toEqual(failure('backend_rejected', false, message));
    expect(receiver.connections()).toBe(1);
  });

  test.each([
    ['seconds', '120', 120_000],
    ['a date', 'Sat, 31 Jan 2026 12:00:30 GMT', 30_000],
    ['a date that is over', 'Sat, 31 Jan 2026 11:00:00 GMT', 0],
    ['nonsense', 'soon', null],
    ['a negative number', '-1', null],
  ])('that asks for time with %s is heard', async (_, value, retryAfterMs) => {
    for (const status of [429, 500, 503]) {
      const receiver = await answering(status, { 'retry-after': value });
      expect(await callReceiver(receiver)).toMatchObject(failure('backend_unavailable', true, undefined, retryAfterMs));
    }
    expect(NOW.toUTCString()).toBe('Sat, 31 Jan 2026 12:00:00 GMT');
  });

  test('that rejects the job may ask for no time', async () => {
    const receiver = await answering(404, { 'retry-after': '5' });
    expect(await callReceiver(receiver)).toMatchObject(failure('backend_rejected', false, undefined, null));
  });
});

describe('the text of a refusal', () => {
  test.each([
    ['text/plain; charset=utf-8', ' no such page\n', ': no such page'],
    ['application/json', '{"error":"no such page"}', ': {"error":"no such page"}'],
    ['application/problem+json', '{"title":"No"}', ': {"title":"No"}'],
    ['text/plain', 'a\0b', ': a\ufffdb'],
    ['text/plain', 'x'.repeat(100_000), `: ${'x'.repeat(500)}`],
    ['text/plain', '🚚'.repeat(500), `: ${'🚚'.repeat(250)}`],
    ['text/plain', '', '.'],
    ['application/pdf', '%PDF', '.'],
    ['', 'untyped', '.'],
  ])('of the type %j becomes part of the message when people can read it', async (type, body, message) => {
    const receiver = await answering(422, type === '' ? {} : { 'content-type': type }, body);
    const outcome = failure('backend_rejected', false, `The back end answered 422${message}`);
    expect(await callReceiver(receiver)).toEqual(outcome);
  });

  test('in a coding is left out', async () => {
    const receiver = await answering(400, { 'content-type': 'text/plain', 'content-encoding': 'gzip' }, 'gibberish');
    expect(await callReceiver(receiver)).toMatchObject(
      failure('backend_rejected', false, 'The back end answered 400.'),
    );
  });

  test('that comes a byte at a time is not waited for', async () => {
    const receiver = await listenRaw((socket) => {
      socket.write('HTTP/1.1 503 Busy\r\ncontent-type: text/plain\r\nretry-after: 7\r\n\r\nwe are ');
      const timer = setInterval(() => socket.write('.'), 100);
      socket.once('close', () => clearInterval(timer));
    });
    const message = expect.stringMatching(/^The back end answered 503: we are \.+$/);
    expect(await callReceiver(receiver)).toEqual(failure('backend_unavailable', true, message, 7000));
    await receiver.allClosed();
  });

  test('that does not end is cut', async () => {
    const receiver = await listenRaw((socket) => {
      socket.write('HTTP/1.1 500 Oops\r\ncontent-type: text/plain\r\n\r\n');
      flood(socket, 'x'.repeat(16_384));
    });
    expect(await callReceiver(receiver)).toMatchObject(failure('backend_unavailable', true));
    await receiver.allClosed();
  });

  test('that breaks off does not hide the status', async () => {
    const receiver = await listenRaw((socket) => {
      socket.write('HTTP/1.1 403 No\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\nhalf');
      setImmediate(() => socket.end());
    });
    expect(await callReceiver(receiver)).toMatchObject(failure('backend_rejected', false));
  });

  test('leaves the connection for the next call', async () => {
    const receiver = await answering(503, { 'content-type': 'text/plain' }, 'x'.repeat(1500));
    const client = makeClient();
    for (const _ of [1, 2, 3]) await callReceiver(receiver, { call: { client } });
    expect(receiver.connections()).toBe(1);
  });
});

test('an input that no longer fits the type is not sent', async () => {
  const receiver = await answering(200);
  const schema = z.object({ pages: z.string() });
  const outcome = await callReceiver(receiver, { schema });
  expect(outcome).toMatchObject(failure('invalid_input', false, expect.stringContaining('/pages')));
  const throws = z.unknown().transform(() => {
    throw new Error('a bug');
  });
  expect(await callReceiver(receiver, { schema: throws })).toMatchObject(failure('invalid_input', false));
  expect(receiver.connections()).toBe(0);
});

test('an output schema that throws is no crash', async () => {
  const receiver = await answering(200, { 'content-type': 'application/json' }, '1');
  const output = z.unknown().transform(() => {
    throw new Error('a bug');
  });
  expect(await callReceiver(receiver, { output })).toMatchObject(failure('invalid_output', false));
});
