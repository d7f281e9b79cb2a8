import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Loaded } from './load-in-node.ts';

const LOADER = fileURLToPath(new URL('./load-in-node.ts', import.meta.url));
const SCHEMA = `const input = { '~standard': { version: 1, vendor: 'test', validate: (value: unknown) => ({ value }) } };`;
const GOOD = `{ type: 'csv.profile', input, run: () => null }`;

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'ringback-config-'));
});
afterAll(() => rm(directory, { recursive: true }));

let count = 0;

async function write(text: string): Promise<string> {
  const path = join(directory, `ringback-${count++}.config.ts`);
  await writeFile(path, text);
  return path;
}

/** Loads a file in a Node of its own, as the service would. */
async function load(path: string, diagnostics = false): Promise<Loaded> {
  const { stdout } = await promisify(execFile)(process.execPath, [LOADER, path, String(diagnostics)]);
  return JSON.parse(stdout) as Loaded;
}

/** The fault of a file, without the file's name, which must come first. */
async function faultOf(path: string, diagnostics = false): Promise<string> {
  const loaded = await load(path, diagnostics);
  if (loaded.ok) throw new Error(`loaded: ${loaded.types.join()}`);
  expect(loaded).toMatchObject({ name: 'ConfigFileError', message: expect.stringContaining(`${path}: `) });
  expect(loaded.message.indexOf(path)).toBe(0);
  return loaded.message.slice(`${path}: `.length);
}

describe.concurrent('a config file', () => {
  test('that is not there is named, and so is the variable that names it', async () => {
    const missing = 'cannot be read; set RINGBACK_CONFIG to the file that defines the jobs';
    expect(await faultOf(join(directory, 'nowhere.ts'))).toBe(missing);
  });

  test('may not be a directory', async () => {
    expect(await faultOf(directory)).toMatch(/^failed to load: .+/);
  });

  test.each([
    ['a syntax error', `export default {`],
    ['TypeScript that cannot be stripped', `enum Kind { A }\nexport default { jobs: [Kind.A] };`],
    ['an import that is not there', `import './nowhere.ts';\nexport default { jobs: [] };`],
    ['a package that is not there', `import 'no-such-package-as-this';\nexport default { jobs: [] };`],
  ])('with %s is said to have failed to load', async (_fault, text) => {
    expect(await faultOf(await write(text))).toMatch(/^failed to load: .+/);
  });

  test.each([
    ['an Error', `throw new Error('STRIPE_KEY is not set');`, 'STRIPE_KEY is not set'],
    ['a string', `throw 'STRIPE_KEY is not set';`, 'STRIPE_KEY is not set'],
    ['null', `throw null;`, 'null'],
    ['an Error, later', `await Promise.reject(new Error('no vault'));`, 'no vault'],
  ])('that throws %s has it passed on', async (_what, text, message) => {
    expect(await faultOf(await write(text))).toBe(`failed to load: ${message}`);
  });

  test.each([
    ['nothing', ''],
    ['nothing as its default', `export const jobs = [];`],
    ['null', `export default null;`],
    ['a list', `export default [];`],
    ['a function', `export default () => ({ jobs: [] });`],
    ['no jobs', `export default {};`],
    ['jobs that are no list', `export default { jobs: { 'csv.profile': {} } };`],
    ['a promise of the config', `export default Promise.resolve({ jobs: [] });`],
  ])('that exports %s is told what it should say', async (_what, text) => {
    expect(await faultOf(await write(text))).toBe('should say: export default defineConfig({ jobs: [...] })');
  });

  test('has each bad job named by its place, its type and its fault', async () => {
    const path = await write(`${SCHEMA}\nexport default { jobs: [${GOOD}, { type: 'b', input }, null] };`);
    expect(await faultOf(path)).toBe(
      'job types that cannot be used:\n' +
        '  jobs[1] (b): needs exactly one of run (a function), backend ({ url }) and remote (true)\n' +
        '  jobs[2] (no type): is not an object; make it with defineJob()',
    );
  });

  test.each([`null`, `{ ...${GOOD}, type: 'ringback.echo' }`])(
    'has a bad job named by its place in the file, whether or not there are diagnostic jobs: %s',
    async (job) => {
      const path = await write(`${SCHEMA}\nexport default { jobs: [${GOOD}, ${job}] };`);
      expect(await faultOf(path, true)).toMatch(/^job types that cannot be used:\n {2}jobs\[1\] \([^)]*\): /);
    },
  );

  test('keeps what was thrown as the cause, for its stack', async () => {
    expect(await load(await write(`throw new RangeError('first');`))).toMatchObject({ cause: 'RangeError: first' });
  });

  test.each([
    [false, ['csv.profile']],
    [true, ['csv.profile', 'ringback.echo', 'ringback.fail', 'ringback.sleep']],
  ])('that is good gives its job types, and with diagnostics %s those: %j', async (diagnostics, types) => {
    const path = await write(`${SCHEMA}\nexport default { jobs: [${GOOD}] };`);
    expect(await load(path, diagnostics)).toEqual({ ok: true, types });
  });

  test('may have no jobs', async () => {
    expect(await load(await write(`export default { jobs: [] };`))).toEqual({ ok: true, types: [] });
  });
});
