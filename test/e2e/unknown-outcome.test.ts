import { beforeAll, describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { makeAccount } from '../support/fixtures.ts';
import { client } from './support/api.ts';
import { serviceEnv, spawnMain } from './support/main-process.ts';
import { expectProblem } from './support/problem.ts';
import { startTcpProxy } from './support/tcp-proxy.ts';

const database = useDatabase();
const LOCK = 4711;

/** The commit of a job with this metadata waits until nobody holds the lock. */
const HELD = { hold: 'yes' };

beforeAll(async () => {
  await database.sql.unsafe(`
    CREATE FUNCTION ringback.hold_up() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN PERFORM pg_advisory_xact_lock(${LOCK}); RETURN new; END $$;
    CREATE CONSTRAINT TRIGGER hold_up AFTER INSERT ON ringback.jobs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
      WHEN (new.metadata ? 'hold') EXECUTE FUNCTION ringback.hold_up()`);
});

/** A service whose way to the database can be cut, and an account of its own there. */
async function setUp() {
  const proxy = await startTcpProxy(database.url);
  const main = spawnMain(serviceEnv(proxy.url, { RINGBACK_ROLES: 'api' }));
  const url = await main.listening();
  const { accountId, key } = await makeAccount(database.db);
  const ask = client(url, key);
  // The key is believed for ten seconds: what follows is about the submission alone.
  expect((await ask('GET', '/v1/jobs')).status).toBe(200);
  const stored = async () =>
    (await database.sql<{ id: string }[]>`SELECT id FROM ringback.jobs WHERE account_id = ${accountId}`).map(
      ({ id }) => id,
    );
  const back = () => eventually(async () => expect((await ask('GET', '/readyz')).status).toBe(200));
  return { proxy, ask, stored, back };
}

/** Holds up what has `HELD` in its metadata until `work` has settled. */
async function holdingUp<T>(work: () => Promise<T>): Promise<T> {
  const { value } = await database.db.transaction(async (tx) => {
    await tx`SELECT pg_advisory_xact_lock(${LOCK})`;
    return { value: await work() };
  });
  return value;
}

const untilHeldUp = () =>
  eventually(async () => {
    const waiting = await database.sql`
      SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'`;
    expect(waiting).toHaveLength(1);
  });

const echo = { type: 'ringback.echo', input: 1 };

describe('a submission whose commit is not confirmed', { timeout: 60_000 }, () => {
  it.each([
    ['', {}],
    [' whose URL is new', { callback: { url: 'http://127.0.0.1:9/new' } }],
  ])('%s is said to be in doubt, with the id to look for; under its key it can be sent again', async (_, more) => {
    const { proxy, ask, stored, back } = await setUp();
    const headers = { 'idempotency-key': 'once' };
    const submission = { ...echo, ...more, metadata: HELD };
    const answer = await holdingUp(async () => {
      const asked = ask('POST', '/v1/jobs', submission, headers);
      await untilHeldUp();
      proxy.mute();
      return { asked };
    });
    await eventually(async () => expect(await stored()).toHaveLength(1));
    await proxy.cut();
    const doubtful = await answer.asked;
    const problem = expectProblem(doubtful, 'outcome_unknown');
    const [id] = await stored();
    expect(problem.job_id).toBe(id);
    expect(problem.detail).not.toMatch(/not carried out|nothing was (?:lost|stored)/i);
    expect(doubtful.headers.get('retry-after')).toBe('2');

    await proxy.restore();
    await back();
    const again = await ask('POST', '/v1/jobs', submission, headers);
    expect({ status: again.status, id: again.json.id }).toEqual({ status: 202, id });
    expect(again.headers.get('idempotency-replayed')).toBe('true');
    expect(await stored()).toEqual([id]);
    if ('callback' in more) expect(again.json.callback.signing_secret, 'it is not lost').toMatch(/^whsec_/);
  });

  it('is said to be not carried out when it certainly was not', async () => {
    const { proxy, ask, stored, back } = await setUp();
    await proxy.cut();
    const refused = await ask('POST', '/v1/jobs', echo, { 'idempotency-key': 'refused' });
    expect(expectProblem(refused, 'database_unavailable')).not.toHaveProperty('job_id');
    await proxy.restore();
    await back();
    expect(await stored()).toEqual([]);
  });
});

describe('a batch during which the connection breaks', { timeout: 60_000 }, () => {
  it('says of each item what became of it', async () => {
    const { proxy, ask, stored } = await setUp();
    const items = Array.from({ length: 1000 }, (_, n) => ({ ...echo, input: n, ...(n === 500 && { metadata: HELD }) }));
    const answer = await holdingUp(async () => {
      const asked = ask('POST', '/v1/jobs/batch', { items });
      await untilHeldUp();
      await proxy.cut();
      return asked;
    });
    expect(answer.status, answer.text).toBe(207);
    expect(answer.json.items).toHaveLength(1000);
    const of = (what: unknown) => answer.json.items.filter(({ status, code }: never) => (code ?? status) === what);
    const [accepted, doubtful, refused] = [of(202), of('outcome_unknown'), of('database_unavailable')];
    expect([accepted, doubtful, refused].map(({ length }) => length > 0)).toEqual([true, true, true]);
    expect(accepted.length + doubtful.length + refused.length).toBe(1000);
    for (const item of [...doubtful, ...refused]) expect(item).toMatchObject({ status: 503, retry_after: 2 });
    const there = await stored();
    const known = accepted.map(({ job }: { job: { id: string } }) => job.id);
    const inDoubt = doubtful.map((item: { job_id: string }) => item.job_id);
    expect(
      known.filter((id: string) => !there.includes(id)),
      'what was accepted is there',
    ).toEqual([]);
    const told = new Set([...known, ...inDoubt]);
    expect(
      there.filter((id) => !told.has(id)),
      'and nothing that was refused',
    ).toEqual([]);
    for (const item of refused) expect(item).not.toHaveProperty('job_id');
  });

  it('is 207 also when nothing of it was stored, and can be sent again whole under its keys', async () => {
    const { proxy, ask, stored, back } = await setUp();
    const items = Array.from({ length: 300 }, (_, n) => ({ ...echo, input: n, idempotency_key: `item-${n}` }));
    items[7] = { ...items[7]!, type: 'no.such.type' };
    await proxy.cut();
    const refused = await ask('POST', '/v1/jobs/batch', { items });
    expect(refused.status, refused.text).toBe(207);
    const codes = new Set(refused.json.items.map(({ code }: { code: string }) => code));
    expect(codes).toEqual(new Set(['database_unavailable']));
    await proxy.restore();
    await back();
    expect(await stored()).toEqual([]);

    const [first, second] = [
      await ask('POST', '/v1/jobs/batch', { items }),
      await ask('POST', '/v1/jobs/batch', { items }),
    ];
    expect(first.json.items[7]).toMatchObject({ status: 404, code: 'unknown_job_type' });
    const idsOf = ({ json }: typeof first) => json.items.flatMap(({ job }: { job?: { id: string } }) => job?.id ?? []);
    expect(idsOf(first)).toHaveLength(299);
    expect(idsOf(second)).toEqual(idsOf(first));
    expect(await stored()).toHaveLength(299);
  });
});
