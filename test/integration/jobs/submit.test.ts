import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { type AccountId, type JobId, newId } from '#domain/ids.ts';
import type { Result } from '#domain/problem.ts';
import { findJob } from '#store/job-reads.ts';
import { type AnyJobDefinition, defineJob } from '../../../src/jobs/type/define.ts';
import { jobJson } from '../../../src/jobs/read/job-view.ts';
import type { Submission } from '../../../src/jobs/submit/submission.ts';
import type { Accepted, SubmitterDeps } from '../../../src/jobs/submit/submit.ts';
import { useDatabase } from '../../support/database.ts';
import { accepted, makeAccount, makeEndpoint } from '../../support/fixtures.ts';
import { makeSubmitter, PUBLIC_URL } from '../../support/workers.ts';

const database = useDatabase();

const strict = defineJob({
  type: 'test.strict',
  input: z.strictObject({ items: z.array(z.object({ 'a/b': z.int() })).min(1) }),
  run: () => null,
});
const anything = defineJob({ type: 'test.anything', input: z.unknown(), run: () => null });

/** Submits without an idempotency key. */
function submitter(changes: Partial<SubmitterDeps> = {}) {
  const made = makeSubmitter(database, [strict, anything], changes);
  return {
    submit: (accountId: AccountId, submission: Submission) => made.submit(accountId, submission, undefined),
  };
}
/** The job as the client is shown it. */
const shown = (result: Result<Accepted>) => JSON.parse(accepted(result).body) as { id: JobId; callback?: Callback };
interface Callback {
  readonly endpoint_id: string;
  readonly url: string;
  readonly events: readonly string[];
  readonly signing_secret?: string;
}
const stored = async (accountId: string) =>
  database.sql<{ id: string; queued: boolean }[]>`
    SELECT job.id, EXISTS (SELECT FROM ringback.run_queue AS item WHERE item.job_id = job.id) AS queued
    FROM ringback.jobs AS job WHERE account_id = ${accountId} ORDER BY id`;

describe('a submission is refused, and nothing is stored,', () => {
  test.each<[string, Submission, object]>([
    [
      'when its type is unknown',
      { type: 'test.anythin', input: 1 },
      { code: 'unknown_job_type', extra: { near: ['test.anything'] } },
    ],
    [
      'when its input does not fit, with a pointer to each fault',
      { type: 'test.strict', input: { items: [{ 'a/b': 1 }, { 'a/b': 'x' }], more: true } },
      {
        code: 'invalid_input',
        faults: [
          { path: '/input/items/1/a~1b', message: expect.any(String) },
          { path: '/input', message: expect.any(String) },
        ],
      },
    ],
    ['when its input is missing', { type: 'test.strict', input: undefined }, { faults: [{ path: '/input' }] }],
    ['when its input holds U+0000', { type: 'test.anything', input: { a: ['x\0'] } }, { code: 'invalid_input' }],
    [
      'when its input holds half a surrogate pair',
      { type: 'test.anything', input: '\ud800' },
      { code: 'invalid_input' },
    ],
    [
      'when its callback may not be reached',
      { type: 'test.anything', input: 1, callback: { url: 'https://10.0.0.1/' } },
      { code: 'invalid_callback_url', faults: [{ path: '/callback/url' }], extra: { reason: 'address_forbidden' } },
    ],
    [
      'when its callback is no URL',
      { type: 'test.anything', input: 1, callback: { url: 'nonsense' } },
      { code: 'invalid_callback_url', extra: { reason: 'malformed' } },
    ],
    [
      'when its endpoint is not there',
      { type: 'test.anything', input: 1, callback: { endpoint_id: newId('ep', 1) } },
      { code: 'endpoint_not_found' },
    ],
  ])('%s', async (_, submission, refusal) => {
    const { accountId } = await makeAccount(database.db);
    expect(await submitter().submit(accountId, submission)).toMatchObject({ ok: false, ...refusal });
    expect(await stored(accountId)).toEqual([]);
    expect(await database.sql`SELECT FROM ringback.endpoints WHERE account_id = ${accountId}`).toHaveLength(0);
  });

  test('when its endpoint is another account’s', async () => {
    const [one, other] = [await makeAccount(database.db), await makeAccount(database.db)];
    const { id } = await makeEndpoint(database.db, other.accountId);
    const submission = { type: 'test.anything', input: 1, callback: { endpoint_id: id } };
    const shared = submitter();
    expect(await shared.submit(other.accountId, submission)).toMatchObject({ ok: true });
    expect(await shared.submit(one.accountId, submission)).toMatchObject({ ok: false, code: 'endpoint_not_found' });
  });

  test('with an error that says so when the database cannot be reached', async () => {
    const db = database.open({ url: 'postgres://nobody@127.0.0.1:1/x', max: 1 });
    const cutOff = submitter({ db, announceRuns: () => expect.fail('nothing was stored') });
    const submitted = await cutOff.submit(newId('acc', 1), { type: 'test.anything', input: 1 });
    expect(submitted).toMatchObject({ ok: false, code: 'database_unavailable', retryAfter: 2 });
  });
});

describe('a submission', () => {
  test('is stored and queued before it is announced, and answers what its status will say', async () => {
    const { accountId } = await makeAccount(database.db);
    const announced = Promise.withResolvers<string>();
    const submission = { type: 'test.strict', input: { items: [{ 'a/b': 1 }] }, metadata: { order: '4711' } };
    const dueAt = () => expect.fail('it is ready');
    const result = accepted(await submitter({ announceRuns: announced.resolve, dueAt }).submit(accountId, submission));
    expect(await announced.promise).toBe('shared');
    const row = await findJob(database.db, accountId, result.id);
    expect(result).toEqual({
      id: result.id,
      type: 'test.strict',
      body: jobJson(row!, PUBLIC_URL),
      replayed: false,
    });
    expect(await stored(accountId)).toEqual([{ id: result.id, queued: true }]);
  });

  test('with everything that can be asked for answers what its status will say', async () => {
    const { accountId } = await makeAccount(database.db);
    const { id: endpointId } = await makeEndpoint(database.db, accountId);
    const runAt = new Date(Date.now() + 3_600_000);
    const due = Promise.withResolvers<number>();
    const announceRuns = () => expect.fail('it is not due');
    const submission: Submission = {
      type: 'test.anything',
      input: { deep: [null] },
      callback: { endpoint_id: endpointId, events: ['job.expired'] },
      metadata: { a: '1', b: '' },
      priority: -7,
      timeout_ms: 1234,
      retry: { maxRuns: 9, jitter: 0 },
      run_at: runAt,
      expires_at: new Date(runAt.getTime() + 1),
    };
    const { id, body } = accepted(await submitter({ announceRuns, dueAt: due.resolve }).submit(accountId, submission));
    expect(await due.promise).toBe(runAt.getTime());
    const row = await findJob(database.db, accountId, id);
    expect(body).toBe(jobJson(row!, PUBLIC_URL));
    expect(row).toMatchObject({ priority: -7, timeoutMs: 1234, retry: { maxRuns: 9, jitter: 0 }, runAt });
  });

  test.each([
    ['its type’s time', undefined, 60_000],
    ['its own', 1000, 1000],
  ])('gives a run %s', async (_whose, timeout_ms, runTimeoutMs) => {
    const { accountId } = await makeAccount(database.db);
    const { id } = accepted(await submitter().submit(accountId, { type: 'test.anything', timeout_ms }));
    const rows = await database.sql`SELECT timeout_ms FROM ringback.run_queue WHERE job_id = ${id}`;
    expect(rows).toEqual([{ timeout_ms: runTimeoutMs }]);
  });

  test.each([
    ['that shares its workers', {}, 'shared'],
    ['with threads', { isolation: 'thread' as const }, 'threads'],
    ['with a limit', { concurrency: 3 }, 'limited:test.way'],
    ['with threads and a limit', { isolation: 'thread' as const, concurrency: 3 }, 'limited:test.way'],
    ['that calls a back end', { run: undefined, backend: { url: 'http://127.0.0.1/' } }, 'shared'],
    ['of remote workers', { run: undefined, remote: true as const }, 'remote:test.way'],
  ])('of a type %s waits where its workers look', async (_way, more, pool) => {
    const { accountId } = await makeAccount(database.db);
    const type = { type: 'test.way', input: z.unknown(), run: () => null, ...more } as AnyJobDefinition;
    const announced = Promise.withResolvers<string>();
    const made = makeSubmitter(database, [type], { announceRuns: announced.resolve });
    const { id } = accepted(await made.submit(accountId, { type: 'test.way' }, undefined));
    expect(await announced.promise).toBe(pool);
    expect(await database.sql`SELECT pool, type FROM ringback.run_queue WHERE job_id = ${id}`).toEqual([
      { pool, type: 'test.way' },
    ]);
  });

  test('keeps its input as it came, not as the schema parsed it', async () => {
    const trimming = defineJob({ type: 'test.trim', input: z.object({ a: z.string().trim() }), run: () => null });
    const { accountId } = await makeAccount(database.db);
    const trims = makeSubmitter(database, [trimming]);
    await trims.submit(accountId, { type: 'test.trim', input: { z: 1, a: ' x ' } }, undefined);
    const rows = await database.sql`SELECT input::text FROM ringback.jobs WHERE account_id = ${accountId}`;
    expect(rows).toEqual([{ input: '{"z":1,"a":" x "}' }]);
  });

  test('to a registered endpoint keeps its URL and the events asked for, and shows no secret', async () => {
    const { accountId } = await makeAccount(database.db);
    const { id, url } = await makeEndpoint(database.db, accountId);
    const callback = { endpoint_id: id, events: ['job.failed'] as const };
    const submitted = await submitter().submit(accountId, { type: 'test.anything', input: null, callback });
    expect(shown(submitted).callback).toEqual({ endpoint_id: id, url, events: ['job.failed'] });
  });
});

describe('many submissions at once', () => {
  test('are all stored and queued', async () => {
    const { accountId } = await makeAccount(database.db);
    const shared = submitter();
    const submitted = await Promise.all(
      Array.from({ length: 100 }, (_, n) => shared.submit(accountId, { type: 'test.anything', input: n })),
    );
    const ids = submitted.map((result) => accepted(result).id);
    const rows = await stored(accountId);
    expect(rows).toEqual(ids.toSorted().map((id) => ({ id, queued: true })));
    const inputs = await database.sql`SELECT input::text FROM ringback.jobs WHERE account_id = ${accountId}`;
    expect(new Set(inputs.map(({ input }) => input as string)).size).toBe(100);
  });

  test('of which the database refuses one store the others', async () => {
    const { accountId } = await makeAccount(database.db);
    const shared = submitter();
    const submitted = await Promise.allSettled(
      Array.from({ length: 20 }, (_, n) =>
        shared.submit(accountId, {
          type: 'test.anything',
          input: n,
          metadata: { key: n === 7 ? 'refused: \0' : 'fine' },
        }),
      ),
    );
    expect(submitted.flatMap(({ status }, n) => (status === 'rejected' ? [n] : []))).toEqual([7]);
    const rows = await stored(accountId);
    expect(rows).toHaveLength(19);
    expect(rows.filter(({ queued }) => !queued)).toEqual([]);
  });

  test('that are the first for a URL make one endpoint, and one of them is shown its secret', async () => {
    const { accountId } = await makeAccount(database.db);
    const callback = { url: 'http://127.0.0.1:8080/first#fragment' };
    const instances = [submitter(), submitter()];
    const submitted = await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        instances[n % 2]!.submit(accountId, { type: 'test.anything', input: n, callback }),
      ),
    );
    const callbacks = submitted.map((result) => shown(result).callback!);
    const endpoints = await database.sql`SELECT id, url FROM ringback.endpoints WHERE account_id = ${accountId}`;
    expect(endpoints).toMatchObject([{ url: 'http://127.0.0.1:8080/first' }]);
    const secrets = callbacks.flatMap(({ signing_secret: secret }) => secret ?? []);
    expect(secrets).toEqual([expect.stringMatching(/^whsec_/)]);
    expect(new Set(callbacks.map(({ endpoint_id }) => endpoint_id))).toEqual(new Set([endpoints[0]!['id']]));
    const rows = await stored(accountId);
    expect(rows).toHaveLength(20);
    expect(rows.every(({ queued }) => queued)).toBe(true);
    const sealed = await database.sql`SELECT FROM ringback.endpoint_secrets WHERE account_id = ${accountId}`;
    expect(sealed).toHaveLength(1);
  });

  test('for one URL of two accounts make an endpoint and a secret for each', async () => {
    const accounts = [await makeAccount(database.db), await makeAccount(database.db)];
    const shared = submitter();
    const callback = { url: 'http://127.0.0.1:8080/shared' };
    const submitted = await Promise.all(
      accounts.map(({ accountId }) => shared.submit(accountId, { type: 'test.anything', input: 1, callback })),
    );
    const secrets = submitted.map((result) => shown(result).callback?.signing_secret);
    expect(new Set(secrets).size).toBe(2);
    expect(secrets).not.toContain(undefined);
  });

  test('a later one for the same URL is shown no secret and makes no endpoint', async () => {
    const { accountId } = await makeAccount(database.db);
    const shared = submitter();
    const submission = { type: 'test.anything', input: 1, callback: { url: 'http://127.0.0.1:8080/again' } };
    for (const isShown of [true, false, false]) {
      const { callback } = shown(await shared.submit(accountId, submission));
      expect('signing_secret' in callback!).toBe(isShown);
    }
    expect(await database.sql`SELECT FROM ringback.endpoints WHERE account_id = ${accountId}`).toHaveLength(1);
  });
});
