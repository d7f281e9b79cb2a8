import { createHash } from 'node:crypto';
import { describe, expect, inject, it, onTestFinished } from 'vitest';
import { openDatabase } from '#store/database.ts';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { findPgBouncer, startPgBouncer } from '../support/pgbouncer.ts';
import { startReceiver } from '../support/receiver.ts';
import { startService } from '../support/service.ts';
import { submit, untilDone } from './support/api.ts';
import { ODD_DEFAULTS, setDefaults } from './support/odd-defaults.ts';

const database = useDatabase();
const pgbouncer = await findPgBouncer();
if (pgbouncer === undefined)
  process.stdout.write('skipped: what goes through PgBouncer, which is not installed (apt-get install pgbouncer)\n');

async function throughPgBouncer(): Promise<string> {
  const pooler = await startPgBouncer(pgbouncer!, inject('server').adminUrl);
  onTestFinished(() => pooler.stop());
  return pooler.url(database.url);
}

const WAYS: ReadonlyArray<readonly [string, boolean]> = [
  ['directly', false],
  ...(pgbouncer === undefined ? [] : [['through PgBouncer in transaction mode', true] as const]),
];

describe.each(WAYS)('a database whose defaults are odd, reached %s', (way, pooled) => {
  it.each(Object.entries(ODD_DEFAULTS))(
    '%s = %s changes nothing that a session of ours relies on',
    async (name, odd) => {
      const url = pooled ? await throughPgBouncer() : database.url;
      const settings = async () => {
        const pool = openDatabase({ url, applicationName: 'ringback-test', max: 1, pooled });
        try {
          return await pool.transaction(
            (tx) => tx<{ value: string }[]>`SELECT current_setting(${inForce(name)}) AS value`,
          );
        } finally {
          await pool.close();
        }
      };
      const [usual] = await settings();
      await setDefaults(database, { [name]: odd });
      onTestFinished(async () => {
        await database.sql.unsafe(`ALTER DATABASE ${new URL(database.url).pathname.slice(1)} RESET ${name}`);
      });
      const fresh = pooled ? await throughPgBouncer() : url;
      const pool = openDatabase({ url: fresh, applicationName: 'ringback-test', max: 1, pooled });
      onTestFinished(() => pool.close());
      const rely = !IRRELEVANT.has(name);
      const [row] = await pool.sql<Record<string, unknown>[]>`
      SELECT current_setting(${inForce(name)}) AS value, ${new Date(1e12)}::timestamptz AS moment, ${'{"a":1}'}::text::json AS json,
        ${Buffer.from([0, 255])}::bytea AS bytes, 0.1::float8 + 0.2::float8 AS number, E'\\x5c' AS backslash, '\\' AS plain,
        ARRAY['a', NULL]::text[] IS NULL AS array, date '2026-02-01' = '2026-02-01' AS date`;
      expect({ ...row, value: rely ? row!['value'] : usual!.value }).toEqual({
        value: usual!.value,
        moment: new Date(1e12),
        json: { a: 1 },
        bytes: Buffer.from([0, 255]),
        number: 0.300_000_000_000_000_04,
        backslash: '\\',
        plain: '\\',
        array: false,
        date: true,
      });
    },
  );

  it('carries a job from its submission to its callback and its record', { timeout: 60_000 }, async () => {
    // A pooler hands out sessions that the server is about to end for being idle: nobody behind it can do anything about that.
    await setDefaults(database, pooled ? { ...ODD_DEFAULTS, idle_session_timeout: '0' } : ODD_DEFAULTS);
    onTestFinished(async () => {
      const name = new URL(database.url).pathname.slice(1);
      await database.sql.unsafe(`ALTER DATABASE ${name} RESET ALL`);
    });
    const receiver = await startReceiver();
    const env = pooled ? { DATABASE_URL: await throughPgBouncer(), DATABASE_DIRECT_URL: database.url } : {};
    const service = await startService({
      databaseUrl: database.url,
      env: { ...env, RINGBACK_CALLBACK_SCHEDULE: '0s,50ms' },
    });
    const { request } = service;
    const input = { text: "it's \\ and \u{1f600}", at: '2026-02-01', n: 0.1, none: null, list: ['a', null] };
    const callback = { url: receiver.url };
    const metadata = { way };
    const job = await submit(request, { type: 'ringback.echo', input, callback, metadata });
    expect(await untilDone(request, job.id)).toMatchObject({ output: input, metadata });
    await receiver.waitFor(1);
    const failed = await submit(request, {
      metadata,
      type: 'ringback.fail',
      input: { times: 1 },
      retry: { min_delay_ms: 10 },
    });
    expect(await untilDone(request, failed.id)).toMatchObject({ status: 'succeeded', runs: 2 });
    const large = 'x'.repeat(200_000);
    const big = await submit(request, { metadata, type: 'ringback.echo', input: large });
    await untilDone(request, big.id);
    const result = await request('GET', `/v1/jobs/${big.id}/result`);
    expect(createHash('sha256').update(result.text).digest('hex')).toBe(
      createHash('sha256').update(JSON.stringify(large)).digest('hex'),
    );
    const later = await submit(request, {
      metadata,
      type: 'ringback.echo',
      input: 1,
      run_at: new Date(Date.now() + 500).toISOString(),
    });
    expect(await untilDone(request, later.id)).toMatchObject({ status: 'succeeded' });
    const canceled = await submit(request, { metadata, type: 'ringback.sleep', input: { ms: 60_000 } });
    expect((await request('POST', `/v1/jobs/${canceled.id}/cancel`)).status).toBeLessThan(300);
    expect(await untilDone(request, canceled.id)).toMatchObject({ status: 'canceled' });
    await eventually(async () => {
      const { json } = await request('GET', `/v1/jobs/${job.id}/deliveries`);
      expect(json.items).toMatchObject([{ status: 'delivered' }]);
    });
    const listed = await request('GET', `/v1/jobs?limit=10&metadata.way=${encodeURIComponent(way)}`);
    expect(listed.json.items).toHaveLength(5);
    for (const { created_at: at } of listed.json.items)
      expect(Math.abs(Date.parse(at) - Date.now())).toBeLessThan(600_000);
    const feed = await request('GET', '/v1/events?limit=100');
    expect(feed.json.items.filter(({ type }: { type: string }) => type === 'job.queued').length).toBeGreaterThanOrEqual(
      5,
    );
    expect(service.noise).toEqual([]);
    expect(service.logs.filter(({ level }) => level >= 50)).toEqual([]);
  });
});

/** Defaults of transactions do not count: each of ours says what it is. */
const inForce = (name: string) => name.replace('default_transaction', 'transaction');

/** What a session of ours does not rely on, so that its value may be anything. */
const IRRELEVANT = new Set([
  'backslash_quote',
  'quote_all_identifiers',
  'jit_above_cost',
  'xmlbinary',
  'gin_fuzzy_search_limit',
]);
