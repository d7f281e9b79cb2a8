import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { client, untilDone } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';
import { expectProblem } from './support/problem.ts';
import { openSocket, readAnswer, sendRaw } from './support/raw-http.ts';

const database = useDatabase();
const key = 'rbk_for-bodies';
const service = useService(() => serviceEnv(database.url, { RINGBACK_BOOTSTRAP_KEY: key }));
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);
const post = (body: unknown) => ask('POST', '/v1/jobs', body);

const echo = { type: 'ringback.echo', input: 1 };
const MAX_BYTES = 1_048_576;

function pathsOf(document: { errors: ReadonlyArray<{ path: string }> }): string[] {
  return document.errors.map(({ path }) => path).toSorted();
}

function head(length: string): string {
  return (
    `POST /v1/jobs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${key}\r\n` +
    `content-type: application/json\r\n${length}\r\n\r\n`
  );
}

describe('a body that is no submission', () => {
  it.each([
    ['empty', ''],
    ['blank', ' \n '],
    ['cut off', '{"type":"ringback.echo"'],
    ['two documents', '{"type":"ringback.echo"}{}'],
    ['JavaScript, not JSON', "{type:'ringback.echo'}"],
    ['NaN', '{"type":"ringback.echo","input":NaN}'],
    ['a raw line end inside a string', '{"type":"ringback.echo","input":"a\nb"}'],
    ['100,000 open brackets', '['.repeat(100_000)],
  ])('is malformed JSON when it is %s', async (_, body) => {
    expectProblem(await post(body), 'malformed_json');
  });

  it.each([
    ['null', 'null', ['']],
    ['a list', '[]', ['']],
    ['a string', '"ringback.echo"', ['']],
    ['an object without a type', '{"input":1}', ['/type']],
  ])('does not have the right shape when it is %s', async (_, body, paths) => {
    expect(pathsOf(expectProblem(await post(body), 'invalid_body'))).toEqual(paths);
  });

  it('is told every fault at once, each with its place', async () => {
    const faulty = {
      type: '',
      input: 1,
      metadata: { ok: 'x', number: 4711, ['k'.repeat(65)]: 'x', long: 'x'.repeat(501) },
      callback: { endpoint_id: 'ep_nonsense' },
      prority: 1,
    };
    const document = expectProblem(await post(faulty), 'invalid_body');
    const paths = pathsOf(document);
    expect(paths).toEqual(expect.arrayContaining(['/type', '/metadata/number', '/metadata/long', '']));
    expect(
      paths.some((path) => path.startsWith('/callback')),
      String(paths),
    ).toBe(true);
    expect(JSON.stringify(document.errors)).toContain('prority');
  });

  it('escapes odd keys in the pointers to its faults', async () => {
    const document = expectProblem(await post({ ...echo, metadata: { 'a/b~c': 1 } }), 'invalid_body');
    expect(pathsOf(document)).toEqual(['/metadata/a~1b~0c']);
  });

  it('names both ways to say where to call back when neither is whole', async () => {
    for (const callback of [
      {},
      { url: 'https://example.com/', endpoint_id: `ep_${'0'.repeat(26)}` },
      'https://x.test/',
    ]) {
      const { errors } = expectProblem(await post({ ...echo, callback }), 'invalid_body');
      expect(errors[0].path).toMatch(/^\/callback/);
    }
  });

  it('lists the events there are when one is none', async () => {
    const callback = { url: 'https://example.com/', events: ['job.succeeded', 'job.exploded'] };
    const { errors } = expectProblem(await post({ ...echo, callback }), 'invalid_body');
    expect(JSON.stringify(errors)).toContain('job.failed');
    expect(JSON.stringify(errors)).toContain('/callback/events/1');
  });
});

describe('an input that does not fit its type', () => {
  it('is told every fault at once, under /input', async () => {
    const document = expectProblem(await post({ type: 'ringback.sleep', input: { ms: '5', s: 1 } }), 'invalid_input');
    expect(pathsOf(document)).toEqual(['/input', '/input/ms']);
  });

  it('is refused when it is missing', async () => {
    const answer = await post({ type: 'ringback.sleep' });
    expect(answer.status).toBe(422);
    expect(pathsOf(answer.json)).toEqual(['/input']);
  });

  it('left no job behind', async () => {
    const count = () => database.sql`SELECT count(*)::int AS jobs FROM ringback.jobs`;
    const before = await count();
    await post({ type: 'ringback.sleep', input: { ms: -1 } });
    await post({ type: 'ringback.sleep', input: {}, callback: { url: 'http://127.0.0.1:9/' } });
    expect(await count()).toEqual(before);
  });
});

describe('what PostgreSQL cannot hold', () => {
  it.each([
    ['U+0000 in a metadata value', { metadata: { a: 'x\0' } }, 'invalid_body'],
    ['U+0000 in a metadata key', { metadata: { 'x\0': 'a' } }, 'invalid_body'],
    ['half a surrogate pair in metadata', { metadata: { a: '\ud800' } }, 'invalid_body'],
    ['U+0000 in the input', { input: { a: ['x\0'] } }, 'invalid_input'],
    ['U+0000 in a key of the input', { input: { 'x\0': 1 } }, 'invalid_input'],
    ['half a surrogate pair in the input', { input: '\udc00' }, 'invalid_input'],
  ] as const)('is refused before it is stored: %s', async (_, member, code) => {
    expectProblem(await post({ ...echo, ...member }), code);
  });

  it('is refused without harm to what is submitted at the same moment', async () => {
    const inputs = Array.from({ length: 40 }, (_, n) => (n % 2 === 0 ? n : `\0${n}`));
    const answers = await Promise.all(inputs.map((input) => post({ type: 'ringback.echo', input })));
    expect(answers.map(({ status }) => status)).toEqual(inputs.map((_, n) => (n % 2 === 0 ? 202 : 422)));
  });

  it.each([100, 1000, 3000, 4500, 6000, 10_000, 50_000])(
    'or what it can, is never a fault of ours: lists nested %i deep',
    async (depth) => {
      const answer = await post(`{"type":"ringback.echo","input":${'['.repeat(depth)}${']'.repeat(depth)}}`);
      if (answer.status !== 202) return void expectProblem(answer, 'invalid_input');
      expect(await untilDone(ask, answer.json.id)).toMatchObject({ status: 'succeeded' });
      return undefined;
    },
  );

  it('lets the last of two equal keys win, as JSON.parse does, in input and output alike', async () => {
    const twice = await post('{"type":"ringback.nothing","type":"ringback.echo","input":{"a":1,"a":2}}');
    expect((await untilDone(ask, twice.json.id)).output).toEqual({ a: 2 });
  });
});

describe('the size of a body', () => {
  const ofSize = (bytes: number) => {
    const empty = JSON.stringify({ type: 'ringback.echo', input: '' });
    return JSON.stringify({ type: 'ringback.echo', input: 'x'.repeat(bytes - empty.length) });
  };

  it('may be the limit and not a byte more', async () => {
    expect((await post(ofSize(MAX_BYTES))).status).toBe(202);
    expect(expectProblem(await post(ofSize(MAX_BYTES + 1)), 'body_too_large')).toMatchObject({ max_bytes: MAX_BYTES });
  });

  it('is refused by what the header says, before the body has come', async () => {
    expectProblem(await sendRaw(service.url, head('content-length: 10000000000')), 'body_too_large');
  });

  it('is counted where the header does not say it', async () => {
    const socket = await openSocket(service.url);
    const answer = readAnswer(socket);
    socket.write(head('transfer-encoding: chunked'));
    const chunk = `10000\r\n${' '.repeat(0x10000)}\r\n`;
    for (let sent = 0; sent <= MAX_BYTES; sent += 0x10000) socket.write(chunk);
    expectProblem(await answer, 'body_too_large');
  });

  it('may come in chunks', async () => {
    const body = JSON.stringify({ type: 'ringback.echo', input: 'in pieces' });
    const chunks = [body.slice(0, 10), body.slice(10)].map((part) => `${part.length.toString(16)}\r\n${part}\r\n`);
    const answer = await sendRaw(service.url, `${head('transfer-encoding: chunked')}${chunks.join('')}0\r\n\r\n`);
    expect(answer.status, answer.text).toBe(202);
  });

  it('matters less than the key: who has none may not send at all', async () => {
    const anonymous = head('content-length: 10000000000').replace(key, 'rbk_somebody-else');
    expectProblem(await sendRaw(service.url, anonymous), 'unauthenticated');
  });
});

describe('the content type of a body', () => {
  it.each([
    '',
    'text/plain',
    'text/json',
    'application/jsonp',
    'application/xml',
    'multipart/form-data; boundary=json',
  ])('is refused when it is "%s"', async (type) => {
    const body = '{"type":"ringback.echo"}';
    const line = type === '' ? '' : `content-type: ${type}\r\n`;
    const request = head(`content-length: ${body.length}`).replace('content-type: application/json\r\n', line);
    expectProblem(await sendRaw(service.url, request + body), 'unsupported_media_type');
  });
});
