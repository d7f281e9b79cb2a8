import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, expect, it, onTestFinished } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { makeAccount } from '../support/fixtures.ts';
import { passHorizon } from '../support/horizon.ts';
import { client, submit, untilDone } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';

const database = useDatabase();
const service = useService(() => serviceEnv(database.url));
let guide: string;
beforeAll(async () => {
  guide = await readFile(new URL('../../docs/guides/reconcile.md', import.meta.url), 'utf8');
});

it('the program of the guide prints each change once, however often it is run', async () => {
  const { key } = await makeAccount(database.db);
  const ask = client(service.url, key);
  const directory = await mkdtemp(join(tmpdir(), 'ringback-guide-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const [, program] = /```js\n(\/\/ reconcile\.mjs[\s\S]*?)```/.exec(guide) ?? [];
  await writeFile(join(directory, 'reconcile.mjs'), program ?? '');
  const run = async () => {
    await passHorizon(database.db);
    const env = { PATH: process.env['PATH'], API: service.url, KEY: key };
    const { stdout } = await promisify(execFile)(process.execPath, ['reconcile.mjs'], { cwd: directory, env });
    return stdout.split('\n').filter((line) => line !== '');
  };
  const ids: string[] = [];
  for (let count = 0; count < 60; count++) {
    const { id } = await submit(ask, { type: 'ringback.echo', input: count });
    ids.push(id);
  }
  for (const id of ids) await untilDone(ask, id);
  expect((await run()).toSorted()).toEqual(ids.map((id) => `${id} succeeded`).toSorted());
  expect(await run()).toEqual([]);
  const { id } = await submit(ask, { type: 'ringback.sleep', input: { ms: 600_000 } });
  expect((await run()).at(-1)).toMatch(new RegExp(`^${id} (?:queued|in_progress)$`));
  await ask('POST', `/v1/jobs/${id}/cancel`);
  await untilDone(ask, id);
  expect((await run()).at(-1)).toBe(`${id} canceled`);
});

it('every request of the guide is answered', async () => {
  const ask = client(service.url, (await makeAccount(database.db)).key);
  const paths = [...guide.matchAll(/^GET (\S+)$/gm)].map(([, path]) => path!);
  expect(paths).toHaveLength(3);
  for (const path of paths) expect(await ask('GET', path), path).toMatchObject({ status: 200, json: { items: [] } });
});
