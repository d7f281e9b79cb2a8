import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { failureOf } from '#jobs/run/handler.ts';
import { ResultTooLargeError } from '#jobs/run/result-too-large.ts';
import { MIB } from '../egress/backends.ts';
import { flood, listenRaw } from '../egress/receivers.ts';
import { answering, bytesOf, callReceiver, failure } from './backend-calls.ts';

const anyOutput = z.unknown();

test('JSON whose content-length is more than is checked is not read', async () => {
  const head = `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${8 * MIB + 1}\r\n\r\n`;
  const receiver = await listenRaw((socket) => socket.write(head));
  const outcome = await callReceiver(receiver, { output: anyOutput, call: { maxResultBytes: 100 * MIB } });
  expect(outcome).toMatchObject(failure('invalid_output', false));
  await receiver.allClosed();
});

describe('a result that is too large', () => {
  test.each([
    ['a file', 'application/pdf', undefined],
    ['JSON', 'application/json', undefined],
    ['JSON for a schema', 'application/json', anyOutput],
  ])('by its content-length is not read: %s', async (_, type, output) => {
    const head = `HTTP/1.1 200 OK\r\ncontent-type: ${type}\r\ncontent-length: 1000000000\r\n\r\n`;
    const receiver = await listenRaw((socket) => socket.write(head));
    const outcome = await callReceiver(receiver, { ...(output && { output }) });
    expect(outcome).toEqual(failure('result_too_large', false, expect.stringContaining('4194304 bytes')));
    await receiver.allClosed();
  });

  test('and endless is cut at the bound, where its reader is told', async () => {
    const receiver = await listenRaw((socket) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-type: application/pdf\r\ntransfer-encoding: chunked\r\n\r\n');
      flood(socket, `4000\r\n${'x'.repeat(16_384)}\r\n`);
    });
    const error: unknown = await bytesOf(await callReceiver(receiver)).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ResultTooLargeError);
    expect(failureOf(error)).toMatchObject(failure('result_too_large', false));
    await receiver.allClosed();
  });

  test('and endless JSON for a schema fails the run', async () => {
    const receiver = await listenRaw((socket) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n');
      flood(socket, ' '.repeat(16_384));
    });
    expect(await callReceiver(receiver, { output: anyOutput })).toMatchObject(failure('result_too_large', false));
    await receiver.allClosed();
  });

  test.each([1000, 1001])('is one of more than the bound: %i bytes', async (length) => {
    const receiver = await answering(200, { 'transfer-encoding': 'chunked' }, 'x'.repeat(length));
    const reading = bytesOf(await callReceiver(receiver, { call: { maxResultBytes: 1000 } }));
    if (length === 1000) expect(await reading).toHaveLength(1000);
    else await expect(reading).rejects.toThrow(ResultTooLargeError);
  });
});
