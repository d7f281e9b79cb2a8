import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { makeAccount } from '../support/fixtures.ts';
import { type Answer, client, untilDone } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';
import { expectProblem } from './support/problem.ts';

/** One database, two processes: what one has answered, the other tells again. */

const database = useDatabase();
const secretKey = randomBytes(32).toString('base64');
const env = () => serviceEnv(database.url, { RINGBACK_SECRET_KEY: secretKey });
const processes = [useService(env), useService(env)] as const;

const echo = { type: 'ringback.echo', input: { n: 1 } };

/** An account of its own; `post` submits under a key to the first or the second process. */
async function newClient() {
  const { accountId, key } = await makeAccount(database.db);
  return {
    accountId,
    ask: client(processes[0].url, key),
    post: (idempotencyKey: string, body: unknown = echo, at: 0 | 1 = 0) =>
      client(processes[at].url, key)('POST', '/v1/jobs', body, { 'idempotency-key': idempotencyKey }),
    stored: async () => {
      const [row] = await database.sql<[{ jobs: number; endpoints: number }]>`
        SELECT (SELECT count(*)::int FROM ringback.jobs WHERE account_id = ${accountId}) AS jobs,
          (SELECT count(*)::int FROM ringback.endpoints WHERE account_id = ${accountId}) AS endpoints`;
      return row;
    },
  };
}

const isReplay = ({ headers }: Answer) => headers.get('idempotency-replayed') === 'true';

/** Until it is answered, as the 409 asks for. */
async function insist(send: () => Promise<Answer>): Promise<Answer> {
  for (;;) {
    const answer = await send();
    if (answer.status !== 409) return answer;
    expectProblem(answer, 'idempotency_in_flight');
    await pause(1000 * Number(answer.headers.get('retry-after')));
  }
}

describe('100 equal submissions at once, to two processes,', () => {
  it.each([
    ['without a callback', echo, 0],
    ['that are the first for a callback URL', { ...echo, callback: { url: 'http://127.0.0.1:9/hundred' } }, 1],
  ])('make one job and get one answer: %s', async (_which, body, endpoints) => {
    const { post, stored, ask } = await newClient();
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, n) => insist(() => post('hundred', body, n % 2 === 0 ? 0 : 1))),
    );
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([202]));
    expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
    expect(new Set(answers.map(({ headers }) => headers.get('location'))).size).toBe(1);
    expect(answers.filter((answer) => !isReplay(answer))).toHaveLength(1);
    expect(await stored()).toEqual({ jobs: 1, endpoints });
    const { id } = answers[0]!.json;
    expect(await untilDone(ask, id)).toMatchObject({ status: 'succeeded', runs: 1 });
  });

  it('of two kinds make one job; those of the other kind are refused and leave nothing', async () => {
    const { post, stored } = await newClient();
    const kinds = [1, 2].map((n) => ({ ...echo, callback: { url: `http://127.0.0.1:9/kind-${n}` } }));
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, n) => insist(() => post('two kinds', kinds[n % 2], n % 4 < 2 ? 0 : 1))),
    );
    const winner = answers.findIndex(({ status }) => status === 202) % 2;
    for (const [n, answer] of answers.entries()) {
      if (n % 2 === winner) expect(answer.text).toBe(answers[winner]!.text);
      else expectProblem(answer, 'idempotency_key_reused');
    }
    expect(await stored()).toEqual({ jobs: 1, endpoints: 1 });
  });
});

it('of two payloads that meet in the database one is refused, and leaves no endpoint whose secret nobody saw', async () => {
  const { post, stored, accountId } = await newClient();
  const payload = (n: number) => ({ ...echo, callback: { url: `http://127.0.0.1:9/meet-${n}` } });
  // Both have looked for the key by the time that either can take it.
  const answering = await database.db.transaction(async (tx) => {
    await tx`LOCK TABLE ringback.idempotency_keys IN EXCLUSIVE MODE`;
    const sent = [post('meet', payload(0), 0), post('meet', payload(1), 1)];
    await eventually(async () => {
      const waiting = await database.sql`
        SELECT FROM pg_locks WHERE relation = 'ringback.idempotency_keys'::regclass AND NOT granted`;
      expect(waiting).toHaveLength(2);
    });
    return { sent };
  });
  const answers = await Promise.all(answering.sent);
  expect(answers.map(({ status }) => status).toSorted()).toEqual([202, 422]);
  const loser = answers.findIndex(({ status }) => status === 422);
  expectProblem(answers[loser]!, 'idempotency_key_reused');
  expect(await stored()).toEqual({ jobs: 1, endpoints: 1 });
  const later = await post('another key', payload(loser));
  expect(later.json.callback).toHaveProperty('signing_secret');
  expect(await database.sql`SELECT FROM ringback.endpoint_secrets WHERE account_id = ${accountId}`).toHaveLength(2);
});

describe('a key that was used', () => {
  it('gives the first answer again, from any process, though the job is long over', async () => {
    const { post, ask } = await newClient();
    const first = await post('again');
    expect(isReplay(first)).toBe(false);
    await untilDone(ask, first.json.id);
    for (const at of [0, 1] as const) {
      const replay = await post('again', echo, at);
      expect({ status: replay.status, text: replay.text }).toEqual({ status: 202, text: first.text });
      expect(replay.headers.get('location')).toBe(first.headers.get('location'));
      expect(isReplay(replay)).toBe(true);
    }
  });

  it.each<[string, object, object?]>([
    ['another input', { ...echo, input: { n: 2 } }],
    ['another type', { ...echo, type: 'ringback.fail' }],
    ['one member more', { ...echo, priority: 1 }],
    ['one member less', { type: echo.type }],
    [
      'the members of its input in another order',
      { ...echo, input: { b: 1, a: 2 } },
      { ...echo, input: { a: 2, b: 1 } },
    ],
  ])('is refused for another payload, in any process, and nothing is stored: %s', async (_what, other, one = echo) => {
    const { post, stored } = await newClient();
    expect((await post('changed', one)).status).toBe(202);
    for (const at of [0, 1] as const) expectProblem(await post('changed', other, at), 'idempotency_key_reused');
    expect(await stored()).toMatchObject({ jobs: 1 });
  });

  it.each([
    ['spaced otherwise', '{ "type" : "ringback.echo",\n "input": {"n": 1} }'],
    ['with its members in another order', '{"input":{"n":1},"type":"ringback.echo"}'],
    ['with another spelling of a number and a string', String.raw`{"type":"ringback\u002eecho","input":{"n":1.0}}`],
  ])('gives the first answer to the same payload %s', async (_how, body) => {
    const { post } = await newClient();
    const first = await post('spelling');
    const replay = await post('spelling', body);
    expect(replay).toMatchObject({ status: 202, text: first.text });
    expect(isReplay(replay)).toBe(true);
  });

  it('is the same key bare and quoted, and another one in other letters', async () => {
    const { post } = await newClient();
    const first = await post('Key 1');
    for (const spelling of ['"Key 1"', ' Key 1 ']) expect((await post(spelling)).text).toBe(first.text);
    for (const another of ['key 1', '"Key 1 "', 'Key  1']) {
      expect(isReplay(await post(another)), another).toBe(false);
    }
  });

  it('is another one in another account', async () => {
    const [one, other] = [await newClient(), await newClient()];
    const first = await one.post('shared');
    const second = await other.post('shared', { ...echo, input: 'another' });
    expect(second.status, second.text).toBe(202);
    expect(second.json.id).not.toBe(first.json.id);
    expect(isReplay(second)).toBe(false);
  });

  it('shows again, in any process, the signing secret that its first answer showed, and keeps it encrypted', async () => {
    const { post, accountId } = await newClient();
    const body = { ...echo, callback: { url: 'http://127.0.0.1:9/secret' } };
    const first = await post('secret', body);
    const { signing_secret: secret } = first.json.callback;
    expect(secret).toMatch(/^whsec_/);
    for (const at of [0, 1] as const) expect((await post('secret', body, at)).text).toBe(first.text);
    const [row] = await database.sql<{ response: Buffer }[]>`
      SELECT response FROM ringback.idempotency_keys WHERE account_id = ${accountId}`;
    expect(Buffer.from(row!.response).includes('whsec_')).toBe(false);
    // A key of its own is a submission of its own: its endpoint is there already.
    expect((await post('no secret', body)).json.callback).not.toHaveProperty('signing_secret');
  });
});

describe('a key whose submission was refused', () => {
  it('is free for the corrected one', async () => {
    const { post } = await newClient();
    expectProblem(await post('corrected', { type: 'ringback.sleep', input: {} }), 'invalid_input');
    expectProblem(await post('corrected', { type: 'ringback.slep', input: { ms: 0 } }), 'unknown_job_type');
    const accepted = await post('corrected', { type: 'ringback.sleep', input: { ms: 0 } });
    expect(accepted.status).toBe(202);
    expect(isReplay(accepted)).toBe(false);
  });

  it('for an input that cannot be serialised is no fault of ours', async () => {
    const { post } = await newClient();
    const deep = `{"type":"ringback.echo","input":${'['.repeat(50_000)}${']'.repeat(50_000)}}`;
    expectProblem(await post('deep', deep), 'invalid_input');
  });
});

it.each([
  ['empty', ''],
  ['quoted and empty', '""'],
  ['too long', 'x'.repeat(256)],
  ['not ASCII', 'clé'],
  ['with a tab in it', 'a\tb'],
  ['a quote that is not closed', '"abc'],
  ['two keys', '"a", "b"'],
])('a key that is none is refused, and nothing is stored: %s', async (_how, header) => {
  const { post, stored } = await newClient();
  expectProblem(await post(header), 'invalid_idempotency_key');
  expect(await stored()).toEqual({ jobs: 0, endpoints: 0 });
});
