import { describe, expect, inject, it, onTestFinished } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { findPgBouncer, startPgBouncer } from '../support/pgbouncer.ts';
import { startReceiver } from '../support/receiver.ts';
import { startService } from '../support/service.ts';
import { serviceEnv, spawnMain } from './support/main-process.ts';

const database = useDatabase();
const binary = await findPgBouncer();
if (binary === undefined)
  process.stdout.write('skipped: what goes through PgBouncer, which is not installed (apt-get install pgbouncer)\n');

async function throughPgBouncer(): Promise<string> {
  const pooler = await startPgBouncer(binary!, inject('server').adminUrl);
  onTestFinished(() => pooler.stop());
  return pooler.url(database.url);
}

/** Debian's PgBouncer knows nothing of prepared statements. */
describe.skipIf(binary === undefined)('behind PgBouncer in transaction mode', { timeout: 90_000 }, () => {
  it('two processes under load lose nothing, interrupt nothing and answer no 500', async () => {
    const receiver = await startReceiver();
    const env = { DATABASE_URL: await throughPgBouncer(), DATABASE_DIRECT_URL: database.url };
    const one = await startService({ databaseUrl: database.url, env });
    const shared = { RINGBACK_SECRET_KEY: one.secretKey, RINGBACK_BOOTSTRAP_KEY: one.key };
    const other = await startService({ databaseUrl: database.url, env: { ...env, ...shared } });
    const posted = Array.from({ length: 400 }, (_, n) =>
      (n % 2 === 0 ? one : other).request(
        'POST',
        '/v1/jobs',
        { type: 'ringback.echo', input: n, callback: { url: receiver.url } },
        n % 3 === 0 ? { 'idempotency-key': `key ${n % 30}` } : {},
      ),
    );
    const statuses = new Set((await Promise.all(posted)).map(({ status }) => status));
    expect(
      [...statuses].every((status) => [202, 409, 422].includes(status)),
      [...statuses].join(),
    ).toBe(true);
    await eventually(async () => {
      const open = await database.sql`SELECT FROM ringback.deliveries WHERE status <> 'delivered'`;
      const [jobs] = await database.sql`
        SELECT count(*) FILTER (WHERE status = 'succeeded')::int AS done, count(*)::int AS jobs FROM ringback.jobs`;
      expect([open.length, jobs!['done']]).toEqual([0, jobs!['jobs']]);
    }, 60_000);
    const outcomes = await database.sql`SELECT DISTINCT outcome FROM ringback.delivery_attempts`;
    expect([...outcomes]).toEqual([{ outcome: 'delivered' }]);
    const runs = await database.sql`SELECT DISTINCT status FROM ringback.job_runs`;
    expect([...runs]).toEqual([{ status: 'succeeded' }]);
    for (const { noise, logs } of [one, other])
      expect([noise, logs.filter(({ level }) => level >= 50)]).toEqual([[], []]);
  });

  it('a start without a direct connection is refused, and says what to set', async () => {
    const main = spawnMain(serviceEnv(await throughPgBouncer()));
    const { code } = await main.ends();
    expect(code).toBe(1);
    expect(main.stderr.join('\n')).toMatch(/^ringback: .*set DATABASE_DIRECT_URL to PostgreSQL itself/);
  });
});
