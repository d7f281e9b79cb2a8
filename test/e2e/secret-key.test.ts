import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Webhook } from 'standardwebhooks';
import { describe, expect, it, onTestFinished } from 'vitest';
import { parseSecretKey } from '#domain/secret-box.ts';
import { useEmptyDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { startReceiver } from '../support/receiver.ts';
import { openDatabase } from '#store/database.ts';
import { client, submit } from './support/api.ts';
import { type Environment, serviceEnv, spawnMain } from './support/main-process.ts';

const key = 'rbk_for-secret-keys';
const newKey = () => randomBytes(32).toString('base64');
const idOf = (secretKey: string) => parseSecretKey(secretKey)!.id;

async function refusalOf(env: Environment): Promise<string> {
  const main = spawnMain(env);
  expect(await main.ends()).toMatchObject({ code: 1, signal: null });
  expect(main.logs.some(({ msg }) => msg === 'listening')).toBe(false);
  const said = main.stderr.join('\n');
  expect(said).toMatch(/^ringback: /);
  expect(said).not.toMatch(/^\s+at /m);
  return said;
}

/** A database of its own, on which services with these keys start. */
async function useInstallation() {
  const url = await useEmptyDatabase();
  const env = (...keys: string[]): Environment =>
    serviceEnv(url, { RINGBACK_SECRET_KEY: keys.join(','), RINGBACK_BOOTSTRAP_KEY: key });
  const start = async (...keys: string[]) => {
    const main = spawnMain(env(...keys));
    return { main, ask: client(await main.listening(), key) };
  };
  return { url, env, start };
}

describe('a service whose keys lack one that the database needs', { timeout: 120_000 }, () => {
  it('does not start, and names each that is missing; with them it goes on where it was', async () => {
    const { env, start } = await useInstallation();
    const [first, second, other] = [newKey(), newKey(), newKey()];
    const receiver = await startReceiver();
    const old = await start(first);
    const callback = { url: receiver.url };
    const { callback: made } = await submit(old.ask, { type: 'ringback.echo', input: 1, callback });
    await receiver.next();
    await old.main.ends({ signal: 'SIGTERM' });

    const changed = await start(second, first);
    const later = { url: receiver.url.replace('/callback', '/later') };
    await submit(changed.ask, { type: 'ringback.echo', input: 1, callback: later });
    await receiver.next();
    const run_at = new Date(Date.now() + 2000).toISOString();
    await submit(changed.ask, { type: 'ringback.echo', input: 2, callback, run_at });
    await changed.main.ends({ signal: 'SIGTERM' });

    const wrong = await refusalOf(env(other));
    expect(wrong).toContain(
      `RINGBACK_SECRET_KEY does not hold every key that this database needs (it holds ${idOf(other)})`,
    );
    for (const missing of [first, second]) expect(wrong).toContain(`\n  ${idOf(missing)}: signing secrets`);
    for (const secret of [first, second, other]) expect(wrong).not.toContain(secret);
    const halfWrong = await refusalOf({ ...env(second, other), RINGBACK_ROLES: 'courier' });
    expect(halfWrong).toContain(`\n  ${idOf(first)}: signing secrets`);
    expect(halfWrong).not.toContain(`  ${idOf(second)}: `);
    expect(receiver.requests).toHaveLength(2);

    await start(other, second, first);
    const { body, headers } = await receiver.next();
    new Webhook(made.signing_secret).verify(body, headers as Record<string, string>);
  });

  it('starts as a runner and keeper all the same: they open nothing', async () => {
    const { env, start } = await useInstallation();
    const { main, ask } = await start(newKey());
    await submit(ask, { type: 'ringback.echo', input: 1, callback: { url: 'http://127.0.0.1:9/' } });
    await main.ends({ signal: 'SIGTERM' });
    await spawnMain({ ...env(newKey()), RINGBACK_ROLES: 'runner,keeper' }).listening();
  });

  it('starts again once the guide was followed for a key that is lost, and callbacks go on with new secrets', async () => {
    const { url, env, start } = await useInstallation();
    const [lost, found] = [newKey(), newKey()];
    const receiver = await startReceiver();
    const before = await start(lost);
    const submission = { type: 'ringback.echo', input: 1, callback: { url: receiver.url } };
    const headers = { 'idempotency-key': 'kept' };
    const { json: job } = await before.ask('POST', '/v1/jobs', submission, headers);
    await receiver.next();
    await before.main.ends({ signal: 'SIGTERM' });
    expect(await refusalOf(env(found))).toContain(`\n  ${idOf(lost)}: idempotent responses, signing secrets`);

    const guide = readFileSync(new URL('../../docs/guides/secret-key.md', import.meta.url), 'utf8');
    const statements = /```sql\n(.*?)```/s.exec(guide)![1]!.replaceAll('9e107d9d3721', idOf(lost));
    const db = openDatabase({ url, applicationName: 'ringback-test', max: 1, pooled: false });
    onTestFinished(() => db.close());
    await db.sql.unsafe(statements);

    const after = await start(found);
    await submit(after.ask, submission);
    await eventually(() =>
      expect(after.main.logs).toContainEqual(
        expect.objectContaining({ level: 50, msg: expect.stringContaining('callbacks wait') }),
      ),
    );
    expect(receiver.requests).toHaveLength(1);
    const rotated = await after.ask('POST', `/v1/endpoints/${job.callback.endpoint_id}/rotate-secret`);
    await db.sql`UPDATE ringback.endpoint_lanes SET blocked_until = now()`;
    const sent = await receiver.waitFor(2);
    new Webhook(rotated.json.signing_secret).verify(sent[1]!.body, sent[1]!.headers as Record<string, string>);
  });

  it('does not start on an embedded database whose kept key was deleted, and does once it is back', async () => {
    const parent = await mkdtemp(join(tmpdir(), 'ringback-key-'));
    await chmod(parent, 0o755);
    onTestFinished(() => rm(parent, { recursive: true, force: true, maxRetries: 3 }));
    const dataDir = join(parent, 'data');
    const env = { RINGBACK_DATA_DIR: dataDir, RINGBACK_BOOTSTRAP_KEY: key };
    const first = spawnMain(env);
    const ask = client(await first.listening(), key);
    await submit(ask, { type: 'ringback.echo', input: 1, callback: { url: 'http://127.0.0.1:9/' } });
    await first.ends({ signal: 'SIGTERM' });

    const file = join(dataDir, 'secret-key');
    const kept = await readFile(file, 'utf8');
    await rm(file);
    const said = await refusalOf(env);
    expect(said).toContain(`${dataDir}/secret-key does not hold every key`);
    expect(said).toContain(`\n  ${idOf(kept.trim())}: signing secrets`);
    await writeFile(file, kept);
    const again = spawnMain(env);
    await again.listening();
    expect(await again.ends({ signal: 'SIGTERM' })).toMatchObject({ code: 0 });
  });
});
