import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { startReceiver } from '../support/receiver.ts';
import { client, submit, untilDone } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';
import { expectProblem } from './support/problem.ts';
import { openSocket, readAnswer, sendRaw } from './support/raw-http.ts';

const database = useDatabase();
const key = 'rbk_for-utf8';
const service = useService(() => serviceEnv(database.url, { RINGBACK_BOOTSTRAP_KEY: key }));
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);

function head(path: string, length: string, { method = 'POST', type = 'application/json', more = '' } = {}): string {
  return (
    `${method} ${path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${key}\r\n` +
    `content-type: ${type}\r\n${length}\r\n${more}\r\n`
  );
}

function send(path: string, body: Uint8Array, options: { method?: string; type?: string; more?: string } = {}) {
  return sendRaw(
    service.url,
    Buffer.concat([Buffer.from(head(path, `content-length: ${body.length}`, options)), body]),
  );
}

const submission = (...name: ReadonlyArray<string | readonly number[]>) =>
  Buffer.concat([
    Buffer.from('{"type":"ringback.echo","input":"'),
    ...name.map((part) => (typeof part === 'string' ? Buffer.from(part) : Buffer.from(part))),
    Buffer.from('"}'),
  ]);
const START = 33;

const jobs = async () => {
  const [row] = await database.sql`SELECT count(*)::int AS jobs FROM ringback.jobs`;
  return row!['jobs'] as number;
};

describe('a body that is not UTF-8', () => {
  it.each([
    ['Latin-1', ['Jos', [0xe9]], START + 3],
    ['a byte that begins nothing', ['', [0xff]], START],
    ['a continuation without a beginning', ['ok', [0x80]], START + 2],
    ['an overlong solidus', ['', [0xc0, 0xaf]], START],
    ['an overlong NUL', ['', [0xc0, 0x80]], START],
    ['half a surrogate pair', ['', [0xed, 0xa0, 0x80]], START],
    ['a code point beyond U+10FFFF', ['', [0xf4, 0x90, 0x80, 0x80]], START],
    ['a character that breaks off', ['é', [0xe2, 0x82]], START + 2],
    ['Latin-1 behind U+FFFD itself', ['\ufffdé\ufffd', [0xe9], '\ufffd'], START + 8],
  ] as const)('is refused with the place of the first wrong byte: %s', async (_, name, offset) => {
    const before = await jobs();
    const body = submission(...name);
    const document = expectProblem(await send('/v1/jobs', body), 'malformed_json');
    expect(document.offset).toBe(offset);
    expect(document.detail).toContain(`0x${body[offset]!.toString(16).toUpperCase()} at offset ${offset}`);
    expect(await jobs()).toBe(before);
  });

  it.each([
    ['UTF-16, little end first, marked', Buffer.from('\ufeff{"type":"ringback.echo"}', 'utf16le')],
    ['UTF-16, big end first, marked', Buffer.from('\ufeff{"type":"ringback.echo"}', 'utf16le').swap16()],
    ['UTF-16 without a mark', Buffer.from('{"type":"ringback.echo"}', 'utf16le')],
    ['UTF-32', Buffer.from([0xff, 0xfe, 0, 0, 0x7b, 0, 0, 0, 0x7d, 0, 0, 0])],
  ])('is refused when it is %s', async (_, body) => {
    expectProblem(await send('/v1/jobs', body), 'malformed_json');
  });

  it('is refused by every route that takes JSON', async () => {
    const { json: document } = await ask('GET', '/openapi.json');
    const routes = Object.entries<Record<string, { requestBody?: { content: object } }>>(document.paths).flatMap(
      ([path, operations]) =>
        Object.entries(operations)
          .filter(([, { requestBody }]) => requestBody !== undefined && 'application/json' in requestBody.content)
          .map(([method]) => [method.toUpperCase(), path] as const),
    );
    expect(routes.length).toBeGreaterThan(15);
    const body = Buffer.from('{"name":"Jos\xe9"}', 'latin1');
    for (const [method, pattern] of routes) {
      // A completion URL is looked up before its body is read: see json-text.test.ts.
      if (pattern.startsWith('/v1/completions/')) continue;
      const prefix = pattern.startsWith('/v1/schedules') ? 'sch' : 'ep';
      const path = pattern.replace('{id}', `${prefix}_01h455vb4pex5vsknk084sn02q`).replace('{handle}', 'x');
      const refused = expectProblem(await send(path, body, { method }), 'malformed_json');
      expect(refused.offset, `${method} ${path}`).toBe(12);
    }
  });

  it('is refused where it comes in chunks', async () => {
    const body = submission('Jos', [0xe9]).toString('latin1');
    const chunks = [body.slice(0, 36), body.slice(36)].map((part) => `${part.length.toString(16)}\r\n${part}\r\n`);
    const request = `${head('/v1/jobs', 'transfer-encoding: chunked')}${chunks.join('')}0\r\n\r\n`;
    expect(expectProblem(await sendRaw(service.url, Buffer.from(request, 'latin1')), 'malformed_json').offset).toBe(36);
  });

  it('does not share an Idempotency-Key with what it would have been replaced by', async () => {
    const headers = { 'idempotency-key': 'replaced' };
    expect((await ask('POST', '/v1/jobs', { type: 'ringback.echo', input: 'Jos\ufffd' }, headers)).status).toBe(202);
    const more = 'idempotency-key: replaced\r\n';
    expectProblem(await send('/v1/jobs', submission('Jos', [0xe9]), { more }), 'malformed_json');
  });
});

describe('a body that is UTF-8', () => {
  it('is taken with a byte order mark, which is no part of it', async () => {
    const body = Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), submission('José')]);
    const accepted = await send('/v1/jobs', body);
    expect(accepted.status, accepted.text).toBe(202);
    expect((await untilDone(ask, accepted.json.id)).output).toBe('José');
  });

  it('may be cut anywhere into chunks', async () => {
    const body = submission('é😀\ufffd').toString('latin1');
    const socket = await openSocket(service.url);
    const answer = readAnswer(socket);
    socket.write(head('/v1/jobs', 'transfer-encoding: chunked'));
    for (const byte of body) socket.write(Buffer.from(`1\r\n${byte}\r\n`, 'latin1'));
    socket.write('0\r\n\r\n');
    const accepted = await answer;
    expect(accepted.status, accepted.text).toBe(202);
    expect((await untilDone(ask, accepted.json.id)).output).toBe('é😀\ufffd');
  });

  it.each(['utf-8', 'UTF-8', '"utf-8"', 'utf8'])('may say so in its content type: charset=%s', async (charset) => {
    const answer = await send('/v1/jobs', submission('é'), { type: `application/json; charset=${charset}` });
    expect(answer.status, answer.text).toBe(202);
  });
});

describe('a body whose header says that it is something else', () => {
  it.each([
    'charset=iso-8859-1',
    'charset="ISO-8859-1"',
    'charset=utf-16',
    'profile=x; charset=latin1',
    'charset=utf-8; charset=latin1',
    'charset=',
  ])('is refused for "%s", with what is accepted', async (parameter) => {
    const answer = await send('/v1/jobs', submission('e'), { type: `application/json; ${parameter}` });
    expect(expectProblem(answer, 'unsupported_media_type').accepted_charsets).toEqual(['utf-8']);
  });

  it.each(['gzip', 'br', 'deflate', 'GZIP', 'identity, gzip'])(
    'is refused when it is encoded as %s, with what is accepted (RFC 7694)',
    async (encoding) => {
      const more = `content-encoding: ${encoding}\r\n`;
      const answer = await send('/v1/jobs', gzipSync(submission('e')), { more });
      expect(expectProblem(answer, 'unsupported_media_type').accepted_encodings).toEqual(['identity']);
      expect(answer.headers.get('accept-encoding')).toBe('identity');
    },
  );

  it('is taken when it says that it is not encoded', async () => {
    const answer = await send('/v1/jobs', submission('e'), { more: 'content-encoding: identity\r\n' });
    expect(answer.status, answer.text).toBe(202);
  });
});

describe('a query that is not UTF-8', () => {
  it.each(['Jos%E9', '%C3', 'Jos%C0%AF', 'a%ED%A0%80', '%e9'])(
    'is refused, for it would look for another text: %s',
    async (value) => {
      const { errors } = expectProblem(await ask('GET', `/v1/jobs?limit=1&metadata.name=${value}`), 'invalid_query');
      expect(errors).toEqual([{ path: '/metadata.name', message: expect.stringMatching(/^%.* is not UTF-8$/) }]);
    },
  );

  it('is one only by its bytes: what is UTF-8 is found, and a percent sign alone is one', async () => {
    const { id } = await submit(ask, { type: 'ringback.echo', input: 1, metadata: { name: 'José', rate: '5%' } });
    for (const query of [
      'metadata.name=Jos%C3%A9',
      'metadata.n%61me=Jos%c3%a9',
      'metadata.rate=5%',
      'metadata.rate=5%25',
    ])
      expect((await ask('GET', `/v1/jobs?${query}`)).json.items[0], query).toMatchObject({ id });
  });

  it('is refused where its bytes are not even encoded', async () => {
    for (const name of ['José', 'Jos\xe9']) {
      const request = `GET /v1/jobs?metadata.name=${name} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${key}\r\n\r\n`;
      const answer = await sendRaw(service.url, Buffer.from(request, name === 'José' ? 'utf8' : 'latin1'));
      expectProblem(answer, 'malformed_request');
    }
  });
});

describe('what a receiver answers with that is not UTF-8', () => {
  it('is shown byte for byte beside the text that is made of it', async () => {
    const receiver = await startReceiver();
    const answer = Buffer.from([0x4a, 0x6f, 0x73, 0xe9]);
    receiver.script({ status: 200, body: answer });
    const { id } = await submit(ask, { type: 'ringback.echo', input: 1, callback: { url: receiver.url } });
    const attempted = await eventually(async () => {
      const { json: deliveries } = await ask('GET', `/v1/jobs/${id}/deliveries`);
      const { json: attempts } = await ask('GET', `/v1/deliveries/${deliveries.items[0].id}/attempts`);
      expect(attempts.items).toHaveLength(1);
      return attempts.items[0];
    });
    const { body, body_base64: bytes } = attempted.response;
    expect([body, bytes]).toEqual(['Jos\ufffd', answer.toString('base64')]);
  });
});

describe('a header that is not ASCII', () => {
  it('is no Idempotency-Key', async () => {
    const request = head('/v1/jobs', 'content-length: 24', { more: 'idempotency-key: Jos\xe9\r\n' });
    const answer = await sendRaw(service.url, Buffer.from(`${request}{"type":"ringback.echo"}`, 'latin1'));
    expectProblem(answer, 'invalid_idempotency_key');
  });
});
