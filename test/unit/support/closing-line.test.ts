import { execFile } from 'node:child_process';
import { mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const REPORTER = join(ROOT, 'test/support/closing-line.ts');

/** Runs test files with the reporter; returns the lines that follow those of vitest's own reporter. */
async function lastLinesOf(
  files: Readonly<Record<string, string>>,
  extra = '',
): Promise<{ lines: string[]; code: number }> {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'ringback-closing-')));
  onTestFinished(() => rm(folder, { recursive: true }));
  await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  const config = `import { ClosingLine } from ${JSON.stringify(REPORTER)};
    export default { test: { pool: 'forks', reporters: ['default', new ClosingLine()], ${extra} } };`;
  await writeFile(join(folder, 'vitest.config.ts'), config);
  for (const [name, text] of Object.entries(files)) {
    const imports = `import { afterAll, beforeAll, describe, expect, it } from 'vitest';\n`;
    await writeFile(join(folder, name), imports + text);
  }
  const vitest = join(ROOT, 'node_modules/vitest/vitest.mjs');
  const env = { PATH: process.env['PATH'], FORCE_COLOR: '1' };
  return new Promise((resolve) => {
    execFile(process.execPath, [vitest, 'run', '--root', folder], { cwd: folder, env }, (error, stdout) => {
      const lines = stdout.trimEnd().split('\n');
      const first = lines.findIndex((line) => /^(?:failed|skipped|tests)\b/.test(line));
      resolve({ lines: lines.slice(first), code: Number(error?.code ?? 0) });
    });
  });
}

test('a run whose tests pass ends with one line', { timeout: 60_000 }, async () => {
  const { lines, code } = await lastLinesOf({ 'passes.test.ts': `it('adds', () => expect(1 + 1).toBe(2));` });
  expect({ lines, code }).toEqual({ lines: ['tests: 1 passed, 0 failed'], code: 0 });
});

test('all that failed is named right before the closing line, which stays as it was', { timeout: 60_000 }, async () => {
  const { lines, code } = await lastLinesOf({
    'a.test.ts': `describe('sums', () => {
      it('adds', () => expect(1 + 1).toBe(3));
      it('works', () => {});
      it('is patient', { timeout: 10 }, () => new Promise(() => {}));
      it('has several lines', () => { throw new Error('one\\ntwo'); });
      it('throws what is no error', () => { throw 'text'; });
      it('waits', ({ skip }) => skip('no such machine'));
    });`,
    'b.test.ts': `throw new Error('does not load'); it('never', () => {});`,
    'c.test.ts': `afterAll(() => expect(['leak'], 'connections left open').toEqual([])); it('leaks', () => {});`,
    'd.test.ts': `describe('set up', () => { beforeAll(() => { throw new Error('no database'); }); it('uses it', () => {}); });`,
    'e.test.ts': `it('leaves a rejection', async () => {
      void Promise.reject(new Error('nobody listens'));
      await new Promise((resolve) => setTimeout(resolve, 20));
    });`,
    'f.test.ts': `import './missing.ts'; it('never', () => {});`,
    'g.test.ts': ``,
  });
  expect(code).toBe(1);
  expect(lines.slice(0, 1)).toEqual(['skipped, no such machine: sums > waits']);
  const failed = lines.slice(1, -1).toSorted();
  expect(failed).toEqual([
    'failed: a.test.ts > sums > adds: expected 2 to be 3 // Object.is equality',
    'failed: a.test.ts > sums > has several lines: one',
    'failed: a.test.ts > sums > is patient: Test timed out in 10ms.',
    'failed: a.test.ts > sums > throws what is no error: text',
    'failed: b.test.ts: does not load',
    expect.stringMatching(/^failed: c\.test\.ts: connections left open: expected \[ 'leak' \] to deeply equal \[\]/),
    'failed: d.test.ts > set up: no database',
    expect.stringMatching(/^failed: f\.test\.ts: .*missing\.ts/),
    expect.stringMatching(/^failed: g\.test\.ts: No test suite found/),
    'failed: unhandled, during e.test.ts > leaves a rejection: nobody listens',
  ]);
  expect(lines.at(-1)).toMatch(/^tests: \d+ passed, 10 failed, \d+ skipped$/);
});

test('very many failures and very long messages are cut', { timeout: 60_000 }, async () => {
  const { lines } = await lastLinesOf({
    'many.test.ts': `it.each(Array.from({ length: 60 }, (_, n) => n))('number %i', () => { throw new Error('x'.repeat(5000)); });`,
  });
  expect(lines).toHaveLength(52);
  expect(Math.max(...lines.map(({ length }) => length))).toBeLessThan(310);
  expect(lines.slice(-2)).toEqual(['failed: and 10 more', 'tests: 0 passed, 60 failed']);
});

test(
  'a set-up of the whole run that fails does not end with a line that says otherwise',
  { timeout: 60_000 },
  async () => {
    const files = {
      'setup.ts': `export default () => { throw new Error('no server'); };`,
      'passes.test.ts': `it('adds', () => {});`,
    };
    const { lines, code } = await lastLinesOf(files, `globalSetup: ['./setup.ts']`);
    expect(code).toBe(1);
    expect(lines).toEqual(['failed: the run: it failed outside of every test', 'tests: 0 passed, 1 failed']);
  },
);
