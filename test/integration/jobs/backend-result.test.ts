import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { makeClient, MIB } from '../egress/backends.ts';
import { flood, listenHttp, listenRaw } from '../egress/receivers.ts';
import { answering, bytesOf, callReceiver, failure } from './backend-calls.ts';

const JSON_TYPE = { 'content-type': 'application/json' };

const anyOutput = z.unknown();

const ofPages = z.object({ pages: z.number() });

/** A JSON string of so many bytes, quotes included. */
const jsonOf = (bytes: number) => `"${'x'.repeat(bytes - 2)}"`;

describe('JSON', () => {
  test.each([
    ['application/json'],
    ['application/json; charset=utf-8'],
    ['Application/JSON'],
    ['application/vnd.api+json'],
    ['application/problem+json;q="x"'],
  ])('of the type %s is a value, as it was answered', async (type) => {
    const receiver = await answering(200, { 'content-type': type }, ' {"a": "Zoë"} ');
    expect(await callReceiver(receiver)).toEqual({ kind: 'value', text: ' {"a": "Zoë"} ' });
  });

  test('is a value whatever 2xx it comes with', async () => {
    for (const status of [200, 201, 203, 206, 299]) {
      const receiver = await answering(status, JSON_TYPE, '1');
      expect(await callReceiver(receiver)).toEqual({ kind: 'value', text: '1' });
    }
  });

  test('is checked against the schema, and stored as the schema gives it', async () => {
    const good = await answering(200, JSON_TYPE, '{"pages":3,"cost":1}');
    expect(await callReceiver(good, { output: ofPages })).toEqual({ kind: 'value', text: '{"pages":3}' });
    const bad = await answering(200, JSON_TYPE, '{"pages":"three"}');
    const message = expect.stringContaining('/pages');
    expect(await callReceiver(bad, { output: ofPages })).toMatchObject(failure('invalid_output', false, message));
  });

  test.each([
    ['nothing', ''],
    ['half an object', '{"a":'],
    ['HTML', '<!doctype html>'],
    ['bytes that are not UTF-8', Buffer.from([34, 0xff, 34])],
    ['two values', '1 2'],
  ])('that is %s fails the run, to be tried again', async (_, body) => {
    const receiver = await answering(200, JSON_TYPE, body);
    expect(await callReceiver(receiver)).toMatchObject(failure('backend_invalid', true));
    expect(await callReceiver(receiver, { output: anyOutput })).toMatchObject(failure('backend_invalid', true));
  });

  test.each([
    ['a NUL', '"\\u0000"'],
    ['nesting no stack can take', '['.repeat(MIB) + ']'.repeat(MIB)],
  ])('that holds %s cannot be stored', async (_, body) => {
    const receiver = await answering(200, JSON_TYPE, body);
    expect(await callReceiver(receiver, { output: anyOutput })).toMatchObject(failure('invalid_output', false));
  });

  test.each([
    ['a length', true],
    ['chunks', false],
  ])('with %s is a file from the first byte too many on, in full', async (_, withLength) => {
    const bodies = [jsonOf(1000), jsonOf(1001)];
    const receiver = await listenHttp((_request, response) => {
      const body = bodies.shift()!;
      response.writeHead(200, { ...JSON_TYPE, ...(withLength && { 'content-length': body.length }) });
      response.write(body.slice(0, 600));
      setImmediate(() => response.end(body.slice(600)));
    });
    const call = { inlineMaxBytes: 1000 };
    expect(await callReceiver(receiver, { call })).toEqual({ kind: 'value', text: jsonOf(1000) });
    const file = await callReceiver(receiver, { call });
    expect(file).toMatchObject({ kind: 'file', contentType: 'application/json' });
    expect((await bytesOf(file)).toString()).toBe(jsonOf(1001));
  });

  test('is a value up to 64 KiB when nobody says otherwise', async () => {
    const kinds = [];
    for (const bytes of [65_536, 65_537])
      kinds.push((await callReceiver(await answering(200, JSON_TYPE, jsonOf(bytes)))).kind);
    expect(kinds).toEqual(['value', 'file']);
  });

  test.each([
    ['with a length', {}],
    ['in chunks', { 'transfer-encoding': 'chunked' }],
  ])('larger than 8 MiB, %s, is not checked against a schema', async (_, more) => {
    const call = { maxResultBytes: 100 * MIB };
    const most = await answering(200, { ...JSON_TYPE, ...more }, jsonOf(8 * MIB));
    expect(await callReceiver(most, { call, output: anyOutput })).toMatchObject({ kind: 'value' });
    const tooMuch = await answering(200, { ...JSON_TYPE, ...more }, jsonOf(8 * MIB + 1));
    const message = "The back end's answer is larger than 8388608 bytes, the most that is checked against a schema.";
    expect(await callReceiver(tooMuch, { call, output: anyOutput })).toEqual(failure('invalid_output', false, message));
    await tooMuch.allClosed();
  });
});

describe('anything else', () => {
  test.each([
    ['application/pdf', 'application/pdf'],
    ['text/html; charset="utf-8"', 'text/html; charset="utf-8"'],
    ['', 'application/octet-stream'],
    ['pdf', 'application/octet-stream'],
    ['text/html, text/plain', 'application/octet-stream'],
    [`text/${'x'.repeat(200)}`, 'application/octet-stream'],
  ])('of the type %j is a file of %j', async (given, contentType) => {
    const bytes = Buffer.from([0x25, 0x50, 0x44, 0x46, 0, 0xff]);
    const receiver = await answering(200, given === '' ? {} : { 'content-type': given }, bytes);
    const outcome = await callReceiver(receiver);
    expect(outcome).toMatchObject({ kind: 'file', contentType });
    expect(await bytesOf(outcome)).toEqual(bytes);
  });

  test('is not what a type with a schema for its output promised', async () => {
    const receiver = await listenRaw((socket) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n');
      flood(socket, 'x'.repeat(16_384));
    });
    expect(await callReceiver(receiver, { output: ofPages })).toMatchObject(failure('invalid_output', false));
    await receiver.allClosed();
  });

  test('in a coding that was not asked for is refused', async () => {
    const headers = { ...JSON_TYPE, 'content-encoding': 'gzip' };
    const receiver = await answering(200, headers, gzipSync('{}'));
    const message = expect.stringContaining('accept-encoding: identity');
    expect(await callReceiver(receiver)).toEqual(failure('backend_invalid', false, message));
    const plain = await answering(200, { ...JSON_TYPE, 'content-encoding': 'identity' }, '{}');
    expect(await callReceiver(plain)).toEqual({ kind: 'value', text: '{}' });
  });
});

describe('no content', () => {
  test.each([204, 205])('with %i is the value null, where the schema takes it', async (status) => {
    const receiver = await answering(status, {}, '');
    const client = makeClient();
    expect(await callReceiver(receiver, { call: { client } })).toEqual({ kind: 'value', text: 'null' });
    const checked = await callReceiver(receiver, { output: ofPages, call: { client } });
    expect(checked).toMatchObject(failure('invalid_output', false));
    expect(receiver.connections()).toBe(1);
  });
});

describe('202', () => {
  test('defers the end, when the back end knows where to tell it', async () => {
    const urls: unknown[] = [];
    const receiver = await listenHttp((incoming, response) => {
      urls.push(incoming.headers['ringback-completion-url']);
      response.writeHead(202, JSON_TYPE).end('{"ticket":1}');
    });
    const completionUrl = 'https://ringback.test/v1/completions/abc?token=secret';
    const client = makeClient();
    for (const _ of [1, 2])
      expect(await callReceiver(receiver, { call: { completionUrl, client } })).toEqual({ kind: 'deferred' });
    expect([urls, receiver.connections()]).toEqual([[completionUrl, completionUrl], 1]);
    expect(await callReceiver(receiver, { call: { client } })).toMatchObject(failure('backend_invalid', false));
    expect(urls[2]).toBeUndefined();
  });

  test('is believed even when its body does not end', async () => {
    const receiver = await listenRaw((socket) => {
      socket.write('HTTP/1.1 202 Accepted\r\n\r\n');
      flood(socket, 'x'.repeat(16_384));
    });
    const call = { completionUrl: 'https://ringback.test/c' };
    expect(await callReceiver(receiver, { call })).toEqual({ kind: 'deferred' });
    await receiver.allClosed();
  });
});
