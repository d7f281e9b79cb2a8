import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { newId, uuidOf } from '#domain/ids.ts';
import { createGuard } from '#egress/guard.ts';
import { isUnavailable } from '#store/database.ts';
import { findJob } from '#store/job-reads.ts';
import { defineJob } from '../../../src/jobs/define.ts';
import { JobTypes } from '../../../src/jobs/job-types.ts';
import { type Submission, Submitter } from '../../../src/jobs/submit.ts';
import { useDatabase } from '../../support/database.ts';
import { accepted, makeAccount, makeEndpoint, SECRET_KEYS } from '../../support/fixtures.ts';
import { useQueues } from '../../support/queues.ts';
import { ALLOW_LOOPBACK, makeSubmitter } from '../../support/workers.ts';

const database = useDatabase();
const queues = useQueues(database);

beforeEach(async () => {
  await database.sql`DELETE FROM pgboss.job`;
});

const strict = defineJob({
  type: 'test.strict',
  input: z.strictObject({ items: z.array(z.object({ 'a/b': z.int() })).min(1) }),
  run: () => null,
});
const anything = defineJob({ type: 'test.anything', input: z.unknown(), run: () => null });

const submitter = (announce?: () => void) =>
  makeSubmitter({ database, queues: queues.get() }, [strict, anything], announce);
const stored = async (accountId: string) =>
  database.sql<{ id: string; queued: boolean }[]>`
    SELECT job.id, EXISTS (SELECT FROM pgboss.job AS item WHERE item.data ->> 'jobId' = job.id) AS queued
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
    const cutOff = new Submitter({
      db,
      queues: queues.get(),
      types: new JobTypes([anything]),
      guard: createGuard({ policy: ALLOW_LOOPBACK }),
      keys: SECRET_KEYS,
      announce: () => expect.fail('nothing was stored'),
    });
    const submitted = cutOff.submit(newId('acc', 1), { type: 'test.anything', input: 1 });
    const error = await submitted.catch((reason: unknown) => reason);
    expect(isUnavailable(error)).toBe(true);
  });
});

describe('a submission', () => {
  test('is stored and queued before it is announced, and answers its row', async () => {
    const { accountId } = await makeAccount(database.db);
    const announced = Promise.withResolvers<void>();
    const submission = { type: 'test.strict', input: { items: [{ 'a/b': 1 }] }, metadata: { order: '4711' } };
    const { job, signingSecret } = accepted(await submitter(announced.resolve).submit(accountId, submission));
    await announced.promise;
    expect(job).toEqual(await findJob(database.db, accountId, job.id));
    expect(signingSecret).toBeUndefined();
    expect(await database.sql`SELECT id::text, data FROM pgboss.job`).toEqual([
      { id: uuidOf(job.id), data: { accountId, jobId: job.id } },
    ]);
  });

  test('keeps its input as it came, not as the schema parsed it', async () => {
    const trimming = defineJob({ type: 'test.trim', input: z.object({ a: z.string().trim() }), run: () => null });
    const { accountId } = await makeAccount(database.db);
    const trims = makeSubmitter({ database, queues: queues.get() }, [trimming]);
    await trims.submit(accountId, { type: 'test.trim', input: { z: 1, a: ' x ' } });
    const rows = await database.sql`SELECT input::text FROM ringback.jobs WHERE account_id = ${accountId}`;
    expect(rows).toEqual([{ input: '{"z":1,"a":" x "}' }]);
  });

  test('to a registered endpoint keeps its URL and the events asked for, and shows no secret', async () => {
    const { accountId } = await makeAccount(database.db);
    const { id, url } = await makeEndpoint(database.db, accountId);
    const callback = { endpoint_id: id, events: ['job.failed'] as const };
    const submitted = await submitter().submit(accountId, { type: 'test.anything', input: null, callback });
    expect(submitted).toMatchObject({
      ok: true,
      value: {
        signingSecret: undefined,
        job: { callbackEndpointId: id, callbackUrl: url, callbackEvents: ['job.failed'] },
      },
    });
  });
});

describe('many submissions at once', () => {
  test('are all stored and queued', async () => {
    const { accountId } = await makeAccount(database.db);
    const shared = submitter();
    const submitted = await Promise.all(
      Array.from({ length: 100 }, (_, n) => shared.submit(accountId, { type: 'test.anything', input: n })),
    );
    const ids = submitted.map((result) => accepted(result).job.id);
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
    expect(await database.sql`SELECT FROM pgboss.job`).toHaveLength(19);
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
    const values = submitted.map(accepted);
    const endpoints = await database.sql`SELECT id, url FROM ringback.endpoints WHERE account_id = ${accountId}`;
    expect(endpoints).toMatchObject([{ url: 'http://127.0.0.1:8080/first' }]);
    const secrets = values.flatMap(({ signingSecret }) => signingSecret ?? []);
    expect(secrets).toEqual([expect.stringMatching(/^whsec_/)]);
    expect(new Set(values.map(({ job }) => job.callbackEndpointId))).toEqual(new Set([endpoints[0]!['id']]));
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
    const secrets = submitted.map((result) => accepted(result).signingSecret);
    expect(new Set(secrets).size).toBe(2);
    expect(secrets).not.toContain(undefined);
  });

  test('a later one for the same URL is shown no secret and makes no endpoint', async () => {
    const { accountId } = await makeAccount(database.db);
    const shared = submitter();
    const submission = { type: 'test.anything', input: 1, callback: { url: 'http://127.0.0.1:8080/again' } };
    for (const shown of [true, false, false]) {
      const { signingSecret } = accepted(await shared.submit(accountId, submission));
      expect(signingSecret !== undefined).toBe(shown);
    }
    expect(await database.sql`SELECT FROM ringback.endpoints WHERE account_id = ${accountId}`).toHaveLength(1);
  });
});
