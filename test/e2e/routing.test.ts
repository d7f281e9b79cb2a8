import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { errorsIn } from '../support/log.ts';
import { client, submit } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';
import { expectProblem } from './support/problem.ts';
import { openSocket, readAnswer, sendRaw } from './support/raw-http.ts';
import { eventually } from '../support/eventually.ts';

const database = useDatabase();
const key = 'rbk_for-routing';
const service = useService(() => serviceEnv(database.url, { RINGBACK_BOOTSTRAP_KEY: key }));
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);
const raw = (requestLine: string, ...headers: string[]) =>
  sendRaw(service.url, [`${requestLine} HTTP/1.1`, 'host: x', ...headers, '', ''].join('\r\n'));

describe('a path', () => {
  it.each([
    '/',
    '/v1',
    '/v1/',
    '/v1/job',
    '/v1/jobs/',
    '//v1/jobs',
    '/v1/jobs/%2e%2e',
    '/V1/jobs',
    '/v1/jobs/x/y/z',
    '/%00',
  ])('that no route has is a problem: %s', async (path) => {
    const answer = await raw(`GET ${path}`, `authorization: Bearer ${key}`);
    expectProblem(answer, 'route_not_found');
  });

  it('says nothing to a stranger about the routes under /v1', async () => {
    for (const path of ['/v1/jobs', '/v1/nothing']) expectProblem(await raw(`GET ${path}`), 'unauthenticated');
  });

  it.each([
    ['of another thing', 'ep_01h455vb4pex5vsknk084sn02q'],
    ['too short', 'job_01h455vb4pex5vsknk084sn02'],
    ['in upper case', 'job_01H455VB4PEX5VSKNK084SN02Q'],
    ['with letters outside the alphabet', 'job_01h455vb4pex5vsknk084sn0il'],
    ['beyond 128 bits', 'job_8zzzzzzzzzzzzzzzzzzzzzzzzz'],
    ['with a NUL', 'job_01h455vb4pex5vsknk084sn02%00'],
    ['with a quote', "job_01h455vb4pex5vsknk084sn02'"],
    ['with half an escape', 'job_%E0%A4%A'],
    ['very long', `job_${'0'.repeat(5000)}`],
  ])('with an id that is %s is told how one looks', async (_, id) => {
    for (const rest of ['', '/result', '/runs', '/deliveries']) {
      const document = expectProblem(await ask('GET', `/v1/jobs/${id}${rest}`), 'invalid_id');
      expect(document).toMatchObject({ errors: [{ path: '/id' }], detail: expect.stringContaining('job_') });
    }
  });
});

describe('a query', () => {
  const cursorOf = (text: string) => Buffer.from(text).toString('base64url');
  it.each([
    ['limit=0', '/limit'],
    ['limit=201', '/limit'],
    ['limit=1.5', '/limit'],
    ['limit=ten', '/limit'],
    ['limit=', '/limit'],
    ['limit=1&limit=2', '/limit'],
    ['cursor=', '/cursor'],
    ['cursor=***', '/cursor'],
    [`cursor=${cursorOf('ep_01h455vb4pex5vsknk084sn02q')}`, '/cursor'],
    [`cursor=${cursorOf("job_' OR 1=1 --")}`, '/cursor'],
    ['cursor=%00', '/cursor'],
    ['limti=5', '/limti'],
  ])('that is no good names its parameter: ?%s', async (query, path) => {
    const document = expectProblem(await ask('GET', `/v1/jobs?${query}`), 'invalid_query');
    expect(document.errors.map((fault: { path: string }) => fault.path)).toContain(path);
  });
});

describe('a method', () => {
  it.each([
    ['DELETE', '/v1/jobs', ['GET', 'HEAD', 'POST']],
    ['PUT', '/v1/jobs/job_01h455vb4pex5vsknk084sn02q', ['GET', 'HEAD']],
    ['POST', '/v1/jobs/job_01h455vb4pex5vsknk084sn02q/result', ['GET', 'HEAD']],
    ['GET', '/v1/endpoints/ep_01h455vb4pex5vsknk084sn02q/rotate-secret', ['POST']],
    ['POST', '/healthz', ['GET', 'HEAD']],
    ['OPTIONS', '/v1/jobs', ['GET', 'HEAD', 'POST']],
    ['PATCH', '/openapi.json', ['GET', 'HEAD']],
    ['PROPFIND', '/v1/jobs', ['GET', 'HEAD', 'POST']],
  ])('that a route does not have is answered with those it has: %s %s', async (method, path, methods) => {
    const answer = await raw(`${method} ${path}`, `authorization: Bearer ${key}`);
    expectProblem(answer, 'method_not_allowed');
    expect(answer.headers.get('allow')!.split(', ').toSorted()).toEqual(methods);
  });

  it('HEAD gives the headers of GET and no body', async () => {
    const { id } = await submit(ask, { type: 'ringback.sleep', input: { ms: 600_000 } });
    for (const path of ['/healthz', '/openapi.json', '/v1/jobs', `/v1/jobs/${id}`]) {
      const [head, get] = [await ask('HEAD', path), await ask('GET', path)];
      expect({ status: head.status, text: head.text }, path).toEqual({ status: 200, text: '' });
      expect(head.headers.get('content-type')).toBe(get.headers.get('content-type'));
    }
    expect((await ask('HEAD', `/v1/jobs/${id}`)).headers.get('retry-after')).not.toBeNull();
    expect((await ask('HEAD', `/v1/jobs/${id}/result`)).status).toBe(409);
    expect((await ask('HEAD', '/v1/endpoints/ep_01h455vb4pex5vsknk084sn02q/rotate-secret')).status).toBe(405);
  });

  it.each(['TRACE', 'TRACK'])('that fetch forbids is not a fault of ours: %s', async (method) => {
    const answer = await raw(`${method} /v1/jobs`, `authorization: Bearer ${key}`);
    expect(answer.status).toBeLessThan(500);
    expect(answer.headers.get('content-type')).toBe('application/problem+json');
  });
});

describe('what is no HTTP/1.1', () => {
  it.each([
    ['another protocol', 'SSH-2.0-OpenSSH_9.6\r\n'],
    ['the start of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ['the start of TLS', Buffer.from('160301020001000001fc0303', 'hex')],
    ['a NUL in a header', 'GET /healthz HTTP/1.1\r\nhost: x\r\nx: a\0b\r\n\r\n'],
    ['two lengths', 'POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n'],
    [
      'a length beside chunks',
      'POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n',
    ],
    ['a chunk of no number', 'POST /healthz HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n'],
    ['no host', 'GET /healthz HTTP/1.1\r\n\r\n'],
    ['two hosts', 'GET /healthz HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n'],
    ['a host that is none', 'GET /healthz HTTP/1.1\r\nhost: a b/c?\r\n\r\n'],
    ['a target that is no path', 'GET healthz HTTP/1.1\r\nhost: x\r\n\r\n'],
  ])('is a malformed request, as a problem: %s', async (_, bytes) => {
    expectProblem(await sendRaw(service.url, bytes), 'malformed_request');
  });

  it('is a problem too when it expects what nobody can meet', async () => {
    const answer = await raw(
      'POST /v1/jobs',
      `authorization: Bearer ${key}`,
      'expect: the-impossible',
      'content-length: 0',
    );
    expect(answer.status).toBeGreaterThanOrEqual(400);
    expect(answer.headers.get('content-type')).toBe('application/problem+json');
  });

  it.each([
    ['one long header', `x: ${'y'.repeat(20_000)}`],
    ['many short ones', Array.from({ length: 1500 }, (_, n) => `x-${n}: 12345`).join('\r\n')],
  ])('is a header that is too large: %s', async (_, headers) => {
    expectProblem(await raw('GET /healthz', headers), 'headers_too_large');
  });

  it('is a path that is too long', async () => {
    expectProblem(await raw(`GET /${'x'.repeat(20_000)}`), 'headers_too_large');
  });

  it('leaves the service well, and nothing of it counts as a fault of ours', async () => {
    const body = JSON.stringify({ type: 'ringback.echo', input: 'never sent whole' });
    const socket = await openSocket(service.url);
    socket.write(
      `POST /v1/jobs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${key}\r\ncontent-type: application/json\r\n` +
        `x-request-id: cut-off\r\ncontent-length: ${body.length}\r\n\r\n${body.slice(0, 20)}`,
    );
    // The service has read the head once a later connection has been served.
    expect((await ask('GET', '/healthz')).status).toBe(200);
    socket.destroy();
    await eventually(() => {
      expect(service.main.logs.some((line) => line['request_id'] === 'cut-off')).toBe(true);
    });
    expect(errorsIn(service.main.logs)).toEqual([]);
    expect(service.main.stderr).toEqual([]);
  });

  it('may be many requests on one connection, answered in their order', async () => {
    const socket = await openSocket(service.url);
    const last = readAnswer(socket);
    socket.write(`GET /v1/nothing HTTP/1.1\r\nhost: x\r\n\r\n${'GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(20)}`);
    expectProblem(await last, 'unauthenticated');
  });
});
