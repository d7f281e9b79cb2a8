import type http from 'node:http';
import { text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { Backend } from '#jobs/type/define.ts';
import { listenHttp, urlOf } from '../egress/receivers.ts';
import { type CallOptions, callReceiver, failure } from './backend-calls.ts';

interface Seen {
  readonly line: string;
  readonly headers: http.IncomingHttpHeaders;
  readonly rawNames: readonly string[];
  readonly body: string;
}

/** What a back end gets to see of one call. */
async function seenBy(path: string, options: CallOptions): Promise<Seen> {
  const seen = Promise.withResolvers<Seen>();
  const receiver = await listenHttp(async (incoming, response) => {
    const { method, url, headers, rawHeaders } = incoming;
    const rawNames = rawHeaders.filter((_, index) => index % 2 === 0).map((name) => name.toLowerCase());
    seen.resolve({ line: `${method} ${url}`, headers, rawNames, body: await text(incoming) });
    response.writeHead(204).end();
  });
  expect(await callReceiver(urlOf(receiver, path), options)).toEqual({ kind: 'value', text: 'null' });
  return seen.promise;
}

describe('a back end is sent', () => {
  test.each<NonNullable<Backend['method']>>(['POST', 'PUT', 'PATCH', 'DELETE'])(
    'the input as it was submitted, by %s',
    async (method) => {
      const schema = z.object({ pages: z.coerce.string().default('1') }); // what it makes of the input stays here
      const inputText = '{ "pages": 3.0, "unknown": ["Zo\\u00eb", 1e400] }';
      const { line, headers, body } = await seenBy('/render?a=1', { schema, backend: { method }, call: { inputText } });
      expect(line).toBe(`${method} /render?a=1`);
      expect(body).toBe(inputText);
      expect(headers).toMatchObject({
        'content-type': 'application/json',
        'content-length': `${Buffer.byteLength(body)}`,
      });
    },
  );

  test.each([null, false, 0, '', [], 'text'])('even %j', async (input) => {
    const inputText = JSON.stringify(input);
    expect((await seenBy('/', { call: { inputText } })).body).toBe(inputText);
  });

  test('who asks, for which job and run, and by which key to know it again', async () => {
    const { headers, rawNames } = await seenBy('/', {});
    expect(headers).toMatchObject({
      accept: '*/*',
      'accept-encoding': 'identity',
      'user-agent': 'Ringback/test',
      'idempotency-key': 'job_1',
      'ringback-job-id': 'job_1',
      'ringback-job-type': 'pdf.render',
      'ringback-run-id': 'run_1',
      'ringback-run-number': '2',
    });
    expect(rawNames).not.toContain('ringback-completion-url');
  });

  test('the configured headers, in place of ours, each once', async () => {
    const headers = {
      Authorization: 'Bearer secret',
      Accept: 'application/pdf',
      'Content-Type': 'application/vnd.api+json',
      'User-Agent': 'acme/1',
      Host: 'pdf.internal:8080',
    };
    const seen = await seenBy('/', { backend: { headers } });
    const wanted = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
    expect(seen.headers).toMatchObject(wanted);
    expect(new Set(seen.rawNames).size).toBe(seen.rawNames.length);
  });
});

describe('by GET, a back end is sent', () => {
  const backend = { method: 'GET' } as const;

  test.each([
    ['text, numbers and booleans', { q: 'a b&c=ä', n: 1.5, yes: true }, '/?q=a+b%26c%3D%C3%A4&n=1.5&yes=true'],
    ['nothing for null, lists and objects', { a: null, b: [1], c: { d: 1 }, e: 'x' }, '/?e=x'],
    ['nothing for an input that is no object', 'text', '/'],
    ['nothing for a list', ['x'], '/'],
    ['line breaks as text', { a: '\r\nhost: evil' }, '/?a=%0D%0Ahost%3A+evil'],
    ['half a character as U+FFFD', { a: '\ud83d' }, '/?a=%EF%BF%BD'],
    ['an empty object as nothing', {}, '/'],
  ])('%s', async (_, input, target) => {
    const { line, body, rawNames } = await seenBy('/', { backend, call: { inputText: JSON.stringify(input) } });
    expect([line, body]).toEqual([`GET ${target}`, '']);
    expect(rawNames).not.toContain('content-type');
    expect(rawNames).not.toContain('content-length');
  });

  test('no second value for a parameter of its URL', async () => {
    const inputText = '{"key":"stolen","q":"x"}';
    const { line } = await seenBy('/search?key=owned#part', { backend, call: { inputText } });
    expect(line).toBe('GET /search?key=owned&q=x');
  });

  test('a query far longer than a URL may be configured', async () => {
    const { line } = await seenBy('/', { backend, call: { inputText: `{"q":"${'x'.repeat(8000)}"}` } });
    expect(line).toHaveLength('GET /?q='.length + 8000);
  });
});

test.each([
  ['a line break', 'https://ringback.test/c\r\nx: y'],
  ['a NUL', 'https://ringback.test/\0'],
])('a completion URL with %s is not sent', async (_, completionUrl) => {
  const receiver = await listenHttp((_request, response) => response.end());
  expect(await callReceiver(receiver, { call: { completionUrl } })).toMatchObject(failure('backend_invalid', false));
  expect(receiver.connections()).toBe(0);
});
