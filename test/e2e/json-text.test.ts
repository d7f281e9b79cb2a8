import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { startReceiver } from '../support/receiver.ts';
import { client, untilDone } from './support/api.ts';
import { type ClaimedRun, tell } from './support/claims.ts';
import { serviceEnv, useService } from './support/main-process.ts';
import { expectProblem } from './support/problem.ts';

/** JSON goes on as it was written: what JavaScript would make of it must not show. */
const HOSTILE =
  '{ "order":7615917337495251231, "amount":1e400,"x":-0, "10":1,"9":2, "price":1.10, "rate":1E5,\n' +
  '  "name":"Jos\\u00e9 \\/", "nested":[{"id":9007199254740993}], "__proto__":{"a":1} }';
/** What back ends and workers answer with; its own numbers, so that neither can pass for the other. */
const ANSWER = '{"total":18446744073709551617,\r\n "limit":-1e999, "zero":-0.0, "2":1,"1":2, "tiny":1e-400}';

const answers = new Map<string, string | Buffer>();
const calls: Array<{ readonly path: string; readonly body: string; readonly completionUrl: string }> = [];
const server = createServer((request, response) => {
  void text(request).then((body) => {
    calls.push({ path: request.url ?? '', body, completionUrl: String(request.headers['ringback-completion-url']) });
    const answer = answers.get(String(request.headers['ringback-job-type'])) ?? ANSWER;
    response.writeHead(answer === '' ? 202 : 200, { 'content-type': 'application/json' }).end(answer);
  });
});

beforeAll(async () => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

const database = useDatabase();
const key = 'rbk_for-json-text';
const service = useService(() =>
  serviceEnv(database.url, {
    RINGBACK_BOOTSTRAP_KEY: key,
    RINGBACK_CONFIG: fileURLToPath(new URL('support/json-text.config.ts', import.meta.url)),
    TEST_BACKEND_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
  }),
);
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);

const submission = (type: string, input: string, more = '') => `{"type":"${type}","input":${input}${more}}`;

async function submit(type: string, input: string, more = ''): Promise<string> {
  const accepted = await ask('POST', '/v1/jobs', submission(type, input, more));
  expect(accepted.status, accepted.text).toBe(202);
  return accepted.json.id;
}

/** The job's representation, once it is done. */
async function doneText(id: string): Promise<string> {
  await untilDone(ask, id);
  return (await ask('GET', `/v1/jobs/${id}`)).text;
}

const lastCall = async (id: string) => {
  await untilDone(ask, id);
  return calls.at(-1)!;
};

async function claim(): Promise<{ readonly run: ClaimedRun; readonly text: string }> {
  return eventually(async () => {
    const claimed = await ask('POST', '/v1/worker/claims', { types: ['test.remote'], worker: 'test', wait_s: 1 });
    const [run] = claimed.json.runs;
    if (run === undefined) throw new Error('no run to claim');
    return { run, text: claimed.text };
  });
}

describe('an input', () => {
  it.each([
    ['an object', HOSTILE],
    ['a number beyond 2^53', '7615917337495251231'],
    ['a number beyond the largest double', '1e400'],
    ['negative zero', '-0'],
    ['a string with escapes', '"Jos\\u00e9 \\/ \\ud83d\\ude00"'],
    ['a list', '[ 1.0, 1E5 ,-0 ]'],
  ])('that is %s reaches a back end as it was sent', async (_, input) => {
    expect((await lastCall(await submit('test.backend', input))).body).toBe(input);
  });

  it('becomes query parameters of a GET as it was sent, in its order', async () => {
    const { path } = await lastCall(await submit('test.query', HOSTILE));
    expect(path).toBe(`/?order=7615917337495251231&amount=1e400&x=-0&10=1&9=2&price=1.10&rate=1E5&name=Jos%C3%A9+%2F`);
  });

  it('reaches a remote worker as it was sent', async () => {
    await submit('test.remote', HOSTILE);
    const { run, text: claimed } = await claim();
    expect(claimed).toContain(`"input":${HOSTILE}`);
    await tell(ask, run, 'complete', '{"output":null}');
  });

  it('is kept for each item of a batch', async () => {
    const inputs = ['7615917337495251231', '{"10":1,"9":7615917337495251232}', '1e400'];
    const items = inputs.map((input) => submission('test.backend', input)).join(' ,\n');
    const { json } = await ask('POST', '/v1/jobs/batch', `{ "items" : [ ${items} ] }`);
    for (const { job } of json.items) await untilDone(ask, job.id);
    expect(
      calls
        .slice(-3)
        .map(({ body }) => body)
        .toSorted(),
    ).toEqual(inputs.toSorted());
  });

  it('of a schedule is kept when it is made, shown, changed and fired', async () => {
    const job = submission('test.backend', HOSTILE);
    const made = await ask('POST', '/v1/schedules', `{"name":"hostile","cron":"0 0 1 1 *","job":${job}}`);
    expect(made.status, made.text).toBe(201);
    expect(made.text).toContain(`"input":${HOSTILE}`);
    const path = `/v1/schedules/${made.json.id}`;
    const triggered = await ask('POST', `${path}/trigger`);
    expect((await lastCall(triggered.json.id)).body).toBe(HOSTILE);
    const changed = await ask('PATCH', path, '{"job":{"input":{"2":7615917337495251233,"1":-0}}}');
    expect(changed.text).toContain('"input":{"2":7615917337495251233,"1":-0}');
    expect((await ask('POST', `${path}/pause`)).text).toContain('"input":{"2":7615917337495251233,"1":-0}');
    expect((await ask('GET', path)).text).toContain('"input":{"2":7615917337495251233,"1":-0}');
  });

  it('with a name given twice has the last of them everywhere, so that what was checked is what is used', async () => {
    const twice = '{"a":1e400,"b":[{"c":7615917337495251231,"\\u0063":2}],"a":{"z":-0}}';
    const { body } = await lastCall(await submit('test.backend', twice));
    expect(body).toBe('{"a":{"z":-0},"b":[{"c":2}]}');
  });
});

describe('what a handler would get as another number', () => {
  it.each(['test.inline', 'test.thread'])('is refused with its path for %s', async (type) => {
    const { errors } = expectProblem(await ask('POST', '/v1/jobs', submission(type, HOSTILE)), 'invalid_input');
    expect(errors.map(({ path }: { path: string }) => path)).toEqual([
      '/input/order',
      '/input/amount',
      '/input/nested/0/id',
    ]);
    expect(errors[0].message).toMatch(/^cannot be represented: .*7615917337495251231.*string/);
  });

  it('is refused when a schedule is made of it, and in a batch for its item alone', async () => {
    const job = submission('test.inline', '{"a":1e400}');
    const made = await ask('POST', '/v1/schedules', `{"name":"no","cron":"@daily","job":${job}}`);
    expect(expectProblem(made, 'invalid_input').errors[0].path).toBe('/job/input/a');
    const batch = await ask('POST', '/v1/jobs/batch', `{"items":[${job},${submission('test.inline', '1.5')}]}`);
    expect(batch.json.items.map(({ status }: { status: number }) => status)).toEqual([422, 202]);
  });

  it.each([
    '9007199254740992',
    '-9007199254740992',
    '18446744073709551616',
    '100000000000000000000000',
    '0.1',
    '0.10000000000000001',
    '3.14159265358979323846',
    '1.7976931348623157e308',
    '1e23',
    '5e-324',
    '0e999',
    '-0',
  ])('is none when it is %s', async (input) => {
    const id = await submit('test.inline', input);
    expect((await untilDone(ask, id)).output).toBe(Number(input) + 0);
  });

  it.each(['9007199254740993', '7615917337495251231.00', '-1e309', '1e-400', '76159173374952512.31'])(
    'is any number that would become another one: %s',
    async (input) => {
      expectProblem(await ask('POST', '/v1/jobs', submission('test.inline', `[${input}]`)), 'invalid_input');
    },
  );
});

describe('an output', () => {
  it('of a back end is shown as it was answered, in every place', async () => {
    const receiver = await startReceiver();
    const id = await submit('test.backend', '1', `,"callback":{"url":"${receiver.url}"}`);
    expect(await doneText(id)).toContain(`"output":${ANSWER}`);
    expect((await ask('GET', `/v1/jobs/${id}/result`)).text).toBe(ANSWER);
    expect((await ask('GET', '/v1/jobs?limit=1')).text).toContain(`"output":${ANSWER}`);
    expect((await ask('POST', `/v1/jobs/${id}/cancel`)).text).toContain(`"output":${ANSWER}`);
    const { body } = await receiver.next();
    expect(body.toString()).toContain(`"output":${ANSWER}`);
    expect((await ask('GET', `/v1/events?job_id=${id}`)).text).toContain(`"output":${ANSWER}`);
  });

  it('is shown to whoever waited, beside the secret of a callback that is new', async () => {
    const receiver = await startReceiver();
    const body = submission('test.backend', '1', `,"callback":{"url":"${receiver.url}/new"}`);
    const { status, text: shown, json } = await ask('POST', '/v1/jobs', body, { prefer: 'wait=10' });
    expect(status, shown).toBe(200);
    expect(shown).toContain(`"output":${ANSWER}`);
    expect(json.callback.signing_secret).toMatch(/^whsec_/);
  });

  it('is one line in a stream, whatever line breaks it has', async () => {
    const id = await submit('test.backend', '1');
    await untilDone(ask, id);
    const read = async (path: string) => {
      const headers = { authorization: `Bearer ${key}`, accept: 'text/event-stream' };
      const response = await fetch(`${service.url}${path}`, { headers });
      let received = '';
      for await (const piece of response.body!.pipeThrough(new TextDecoderStream())) {
        received += piece;
        if (/event: job\.succeeded\n[^]*?\n\n/.test(received)) break;
      }
      return /event: job\.succeeded\ndata: (.*)\n\n/.exec(received)?.[1];
    };
    const wanted = `"output":${ANSWER.replace('\r\n', '  ')}`;
    expect(await read(`/v1/jobs/${id}/events`)).toContain(wanted);
    expect(await read(`/v1/events?job_id=${id}`)).toContain(wanted);
  });

  it('of a remote worker is kept as it was sent', async () => {
    const id = await submit('test.remote', '1');
    const { run } = await claim();
    const told = await tell(ask, run, 'complete', `{ "output" : ${ANSWER} }`);
    expect(told.status, told.text).toBe(200);
    expect(await doneText(id)).toContain(`"output":${ANSWER}`);
    expect((await ask('GET', `/v1/jobs/${id}/result`)).text).toBe(ANSWER);
  });

  it('of a remote worker is kept as it was sent when it is too large to stand in the job', async () => {
    const large = `{"text":"${'x'.repeat(100_000)}", "id":9007199254740993 }`;
    const id = await submit('test.remote', '1');
    const { run } = await claim();
    await tell(ask, run, 'complete', `{"output":${large}}`);
    await untilDone(ask, id);
    expect((await ask('GET', `/v1/jobs/${id}/result`)).text).toBe(large);
  });

  it('told at a completion URL is kept as it was sent, and refused when it is not UTF-8', async () => {
    answers.set('test.backend', '');
    const count = calls.length;
    const id = await submit('test.backend', '1');
    await eventually(() => expect(calls.length).toBe(count + 1));
    answers.delete('test.backend');
    const complete = (body: string, encoding: BufferEncoding) =>
      fetch(calls.at(-1)!.completionUrl, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: Buffer.from(body, encoding),
      });
    const refused = await complete('{"status":"succeeded","output":"Jos\xe9"}', 'latin1');
    expect([refused.status, await refused.json()]).toMatchObject([400, { code: 'malformed_json', offset: 35 }]);
    const response = await complete(`{"status":"succeeded","output":${ANSWER}}`, 'utf8');
    expect(response.status, await response.text()).toBe(204);
    expect(await doneText(id)).toContain(`"output":${ANSWER}`);
  });

  it('of a back end that is not UTF-8 fails the run, and says where', async () => {
    answers.set('test.typed', Buffer.from('{"order":1,"note":"Jos\xe9"}', 'latin1'));
    const id = await submit('test.typed', '1', ',"retry":{"max_runs":1}');
    expect((await untilDone(ask, id)).error).toEqual({
      code: 'backend_invalid',
      message: 'The back end answered with JSON that is not UTF-8: its first wrong byte is at offset 22.',
    });
  });

  it('keeps its digits where a schema reads, orders and completes it', async () => {
    answers.set('test.typed', '{"extra":1e400,"order":7615917337495251231}');
    expect(await doneText(await submit('test.typed', '1'))).toContain(
      '"output":{"order":7615917337495251231,"note":"none"}',
    );
    answers.set('test.typed', '{ "note":"\\u00e9", "order":7615917337495251231 }');
    expect(await doneText(await submit('test.typed', '1'))).toContain(
      '"output":{ "note":"\\u00e9", "order":7615917337495251231 }',
    );
  });
});

describe('metadata', () => {
  it.each(['constructor', 'toString', '1'])('comes back whatever its names are: %s', async (name) => {
    const accepted = await ask('POST', '/v1/jobs', submission('test.inline', '1', `,"metadata":{"${name}":"x"}`));
    expect(accepted.text).toContain(`"metadata":{"${name}":"x"}`);
    expect(await doneText(accepted.json.id)).toContain(`"metadata":{"${name}":"x"}`);
  });

  it('with a name that would be lost is refused', async () => {
    const refused = await ask('POST', '/v1/jobs', submission('test.inline', '1', ',"metadata":{"__proto__":"x"}'));
    expect(expectProblem(refused, 'invalid_body').errors[0].path).toBe('/metadata/__proto__');
  });
});

describe('a log line', () => {
  it('of a remote worker keeps its fields as they were sent', async () => {
    const id = await submit('test.remote', '1');
    const { run } = await claim();
    const fields = '{"order":7615917337495251231,"2":1,"1":1e400}';
    await tell(
      ask,
      run,
      'log',
      `{"lines":[{"level":"info","message":"a"},{"level":"info","message":"b","fields":${fields}}]}`,
    );
    await tell(ask, run, 'complete', '{"output":null}');
    expect((await ask('GET', `/v1/jobs/${id}/logs`)).text).toContain(`"fields":${fields}`);
  });
});

describe('an Idempotency-Key', () => {
  let keys = 0;
  const twice = async (one: string, other: string) => {
    const headers = { 'idempotency-key': `text-${keys++}` };
    const first = await ask('POST', '/v1/jobs', submission('test.backend', one), headers);
    expect(first.status, first.text).toBe(202);
    const second = await ask('POST', '/v1/jobs', submission('test.backend', other), headers);
    if (second.status === 202) expect(second.text).toBe(first.text);
    return second.status;
  };

  it.each([
    ['9007199254740992', '9007199254740993'],
    ['null', '1e999'],
    ['1e999', '-1e999'],
    ['0', '-0'],
    ['0', '1e-400'],
    ['0.1', '0.10000000000000001'],
    ['{"2":1,"1":2}', '{"1":2,"2":1}'],
    ['[7615917337495251231]', '[7615917337495251232]'],
    ['"1"', '1'],
  ])('tells %s from %s', async (one, other) => {
    expect(await twice(one, other)).toBe(422);
  });

  it.each([
    [HOSTILE, HOSTILE],
    ['{"a":[1,2]}', '{ "a" : [ 1,\n2 ] }'],
    ['{"a":7615917337495251231}', '{ "a" :7615917337495251231 }'],
    ['[1,1.10,100000]', '[1.0,1.1,1E5]'],
    ['"José /"', '"Jos\\u00E9 \\/"'],
  ])('takes %s and %s for one payload', async (one, other) => {
    expect(await twice(one, other)).toBe(202);
  });

  it('does so for the items of a batch', async () => {
    const item = (input: string) => submission('test.backend', input, ',"idempotency_key":"batch-text"');
    const send = (input: string) => ask('POST', '/v1/jobs/batch', `{"items":[${item(input)}]}`);
    expect((await send('9007199254740992')).json.items[0].status).toBe(202);
    expect((await send(' 9007199254740992 ')).json.items[0]).toMatchObject({ status: 202, replayed: true });
    expect((await send('9007199254740993')).json.items[0].status).toBe(422);
  });
});
