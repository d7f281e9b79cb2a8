import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { makeAccount } from '../support/fixtures.ts';
import { client, submit, untilDone } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';
import { expectProblem } from './support/problem.ts';
import { sendRaw } from './support/raw-http.ts';

const database = useDatabase();
const key = 'rbk_for-batches';
const MAX_BYTES = 65_536;
const service = useService(() =>
  serviceEnv(database.url, { RINGBACK_BOOTSTRAP_KEY: key, RINGBACK_MAX_BODY_BYTES: String(MAX_BYTES) }),
);
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);

const echo = { type: 'ringback.echo', input: 1 };
const later = { ...echo, run_at: new Date(Date.now() + 3_600_000).toISOString() };

interface Item {
  readonly status: number;
  readonly replayed?: boolean;
  // eslint-disable-next-line -- what a test expects of it, the test says
  readonly job?: any;
  readonly code?: string;
  readonly errors?: ReadonlyArray<{ readonly path: string }>;
}

/** What became of each item. */
async function batch(items: readonly unknown[], as = ask): Promise<Item[]> {
  const answer = await as('POST', '/v1/jobs/batch', { items });
  expect(answer.status, answer.text).toBe(207);
  expect(answer.json.items).toHaveLength(items.length);
  return answer.json.items;
}

async function newAccount() {
  const made = await makeAccount(database.db);
  return {
    as: client(service.url, made.key),
    jobs: async () => {
      const rows = await database.sql<{ id: string; n: number }[]>`
        SELECT id, (input #>> '{}')::int AS n FROM ringback.jobs WHERE account_id = ${made.accountId} ORDER BY id`;
      return [...rows];
    },
  };
}

describe('a batch', () => {
  it('of 1,000 makes 1,000 jobs, and answers each in its place', async () => {
    const { as, jobs } = await newAccount();
    const items = await batch(
      Array.from({ length: 1000 }, (_, n) => ({ ...echo, input: n, metadata: { n: String(n) } })),
      as,
    );
    expect(items.map(({ status, job }) => [status, job.status, job.metadata.n])).toEqual(
      Array.from({ length: 1000 }, (_, n) => [202, 'queued', String(n)]),
    );
    const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1);
    expect(await jobs()).toEqual(items.map(({ job }, n) => ({ id: job.id, n })).toSorted(byId));
    for (const n of [0, 499, 999]) {
      expect(await untilDone(as, items[n]!.job.id)).toMatchObject({ status: 'succeeded', output: n });
    }
  });

  it('of one is a job like any other', async () => {
    const [item] = await batch([{ ...echo, priority: 3, timeout_ms: 1000 }]);
    expect(item).toEqual({ status: 202, job: expect.objectContaining({ priority: 3, timeout_ms: 1000 }) });
    const status = await untilDone(ask, item!.job.id);
    expect(Object.keys(status)).toEqual(expect.arrayContaining(Object.keys(item!.job)));
  });

  it('refuses its bad items one by one, and stores the others', async () => {
    const { as, jobs } = await newAccount();
    const bad: Array<[unknown, string, number, string[] | undefined]> = [
      [{ type: 'ringback.ecko', input: 1 }, 'unknown_job_type', 404, undefined],
      [{ type: 'ringback.sleep', input: { ms: -1 } }, 'invalid_input', 422, ['/input/ms']],
      [{ ...echo, input: 'a\0b' }, 'invalid_input', 422, undefined],
      [{ ...echo, input: 'a\0b', idempotency_key: 'with a NUL' }, 'invalid_input', 422, undefined],
      [{ ...echo, typ: 1 }, 'invalid_body', 422, ['']],
      [{ input: 1 }, 'invalid_body', 422, ['/type']],
      [{ ...echo, metadata: { a: 1 }, priority: 101 }, 'invalid_body', 422, ['/metadata/a', '/priority']],
      [{ ...echo, run_at: '2000-01-01T00:00:00Z' }, 'invalid_body', 422, ['/run_at']],
      [{ ...echo, callback: { url: 'http://10.0.0.1/' } }, 'invalid_callback_url', 422, ['/callback/url']],
      [{ ...echo, idempotency_key: '' }, 'invalid_body', 422, ['/idempotency_key']],
      [{ ...echo, idempotency_key: 'clé' }, 'invalid_body', 422, ['/idempotency_key']],
      [{ ...echo, idempotency_key: 'x'.repeat(256) }, 'invalid_body', 422, ['/idempotency_key']],
      [null, 'invalid_body', 422, ['']],
      ['ringback.echo', 'invalid_body', 422, ['']],
      [7, 'invalid_body', 422, ['']],
      [[echo], 'invalid_body', 422, ['']],
    ];
    const items = await batch(
      bad.flatMap(([item], n) => [item, { ...echo, input: n }]),
      as,
    );
    for (const [n, [item, code, status, paths]] of bad.entries()) {
      const refused = items[2 * n]!;
      expect(refused, JSON.stringify(item)).toMatchObject({ code, status, type: `urn:ringback:problem:${code}` });
      expect(refused.errors?.map(({ path }) => path).toSorted(), JSON.stringify(item)).toEqual(paths);
      expect(items[2 * n + 1]!.status).toBe(202);
    }
    expect((await jobs()).map(({ n }) => n).toSorted((a, b) => a - b)).toEqual(bad.map((_, n) => n));
  });

  it.each(['', ',"idempotency_key":"deep"'])('harms no item beside one nested too deeply {%s}', async (more) => {
    const deep = `{"type":"ringback.echo","input":${'['.repeat(50_000)}${']'.repeat(50_000)}${more}}`;
    const answer = await ask('POST', '/v1/jobs/batch', `{"items":[${deep},${JSON.stringify(echo)}]}`);
    expect(answer.status, answer.text).toBe(207);
    expect(answer.json.items).toMatchObject([{ status: 422, code: 'invalid_input' }, { status: 202 }]);
  });

  it('with one callback URL for all makes one endpoint, and one of them is shown its secret', async () => {
    const { as } = await newAccount();
    const callback = { url: 'http://127.0.0.1:9/batch' };
    const items = await batch(
      Array.from({ length: 50 }, () => ({ ...later, callback })),
      as,
    );
    expect(new Set(items.map(({ job }) => job.callback.endpoint_id)).size).toBe(1);
    expect(items.filter(({ job }) => 'signing_secret' in job.callback)).toHaveLength(1);
  });
});

describe('a batch is refused as a whole', () => {
  it.each([
    ['when it is empty', { items: [] }, ['/items']],
    ['when it has 1,001 items', { items: Array.from({ length: 1001 }, () => echo) }, ['/items']],
    ['without items', {}, ['/items']],
    ['when its items are no list', { items: { 0: echo } }, ['/items']],
    ['when it is a list itself', [echo], ['']],
    ['with an unknown member', { items: [echo], atomic: true }, ['']],
  ])('%s', async (_when, body, paths) => {
    const { as, jobs } = await newAccount();
    const { errors } = expectProblem(await as('POST', '/v1/jobs/batch', body), 'invalid_body');
    expect(errors.map(({ path }: { path: string }) => path)).toEqual(paths);
    expect(await jobs()).toEqual([]);
  });

  it('when it is larger than 16 submissions may be, before its body has come', async () => {
    const head = (bytes: number) =>
      `POST /v1/jobs/batch HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${key}\r\n` +
      `content-type: application/json\r\ncontent-length: ${bytes}\r\n\r\n`;
    const refused = expectProblem(await sendRaw(service.url, head(16 * MAX_BYTES + 1)), 'body_too_large');
    expect(refused.max_bytes).toBe(16 * MAX_BYTES);
    const filler = JSON.stringify({ items: [echo] }).padEnd(16 * MAX_BYTES, ' ');
    expect((await ask('POST', '/v1/jobs/batch', filler)).status).toBe(207);
  });

  it('when it is no JSON', async () => {
    expectProblem(await ask('POST', '/v1/jobs/batch', '{"items":['), 'malformed_json');
    const form = { 'content-type': 'text/plain' };
    expectProblem(await ask('POST', '/v1/jobs/batch', '{"items":[]}', form), 'unsupported_media_type');
  });
});

describe('an item under an idempotency key', () => {
  it('twice in one batch makes one job, and is told again', async () => {
    const { as, jobs } = await newAccount();
    const twice = { ...later, idempotency_key: 'twice' };
    const [first, other, second] = await batch([twice, later, twice], as);
    expect([first, other, second].map((item) => [item!.status, item!.replayed])).toEqual([
      [202, undefined],
      [202, undefined],
      [202, true],
    ]);
    expect(second!.job).toEqual(first!.job);
    expect(other!.job.id).not.toBe(first!.job.id);
    expect(await jobs()).toHaveLength(2);
  });

  it('twice in one batch with two payloads makes one job, and the other is refused', async () => {
    const { as, jobs } = await newAccount();
    const items = await batch(
      [1, 2].map((n) => ({ ...later, input: n, idempotency_key: 'both' })),
      as,
    );
    expect(items[0]).toMatchObject({ status: 202 });
    expect(items[1]).toMatchObject({ status: 422, code: 'idempotency_key_reused' });
    expect(await jobs()).toHaveLength(1);
  });

  it('is told again when the whole batch is sent again, as many at once as there are', async () => {
    const { as, jobs } = await newAccount();
    const items = Array.from({ length: 200 }, (_, n) => ({ ...later, input: n, idempotency_key: `item ${n}` }));
    const batches = await Promise.all([batch(items, as), batch(items.toReversed(), as), batch(items, as)]);
    const [one, reversed, three] = batches.map((answers) => answers.map(({ job }) => job));
    expect(reversed!.toReversed()).toEqual(one);
    expect(three).toEqual(one);
    expect(batches.flat().filter(({ replayed }) => replayed)).toHaveLength(400);
    expect(await jobs()).toHaveLength(200);
  });

  it('shares its keys with single submissions', async () => {
    const { as } = await newAccount();
    const single = await as('POST', '/v1/jobs', later, { 'idempotency-key': '"one for both"' });
    const [again, changed] = await batch(
      [
        { idempotency_key: 'one for both', ...later },
        { ...later, input: 2, idempotency_key: 'one for both' },
      ],
      as,
    );
    expect(again).toEqual({ status: 202, replayed: true, job: single.json });
    expect(changed).toMatchObject({ status: 422, code: 'idempotency_key_reused' });
  });
});

it('an item may not be larger than a submission by itself', async () => {
  const large = { ...later, input: 'x'.repeat(MAX_BYTES) };
  expectProblem(await ask('POST', '/v1/jobs', large), 'body_too_large');
  const [refused, fine] = await batch([large, later]);
  expect(refused).toMatchObject({ status: 413, code: 'input_too_large', max_bytes: MAX_BYTES });
  expect(fine!.status).toBe(202);
  await submit(ask, { ...later, input: 'x'.repeat(MAX_BYTES - 200) });
});
