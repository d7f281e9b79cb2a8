import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const LOG = fileURLToPath(new URL('../../src/log.ts', import.meta.url));

/** What a process prints that logs 2,000 lines, more than are gathered at once, and then ends so. */
function logAndEnd(end: string): Promise<string> {
  const program = `
    import { createLogger, flush } from ${JSON.stringify(LOG)};
    const log = createLogger('info');
    for (let n = 0; n < 2000; n++) log.info({ n }, 'line');
    ${end}`;
  const { promise, resolve } = Promise.withResolvers<string>();
  execFile(process.execPath, ['--input-type=module-typescript', '-e', program], (_error, stdout) => resolve(stdout));
  return promise;
}

test.each([
  ['comes to its end', ''],
  ['exits', 'process.exit(3);'],
  ['exits while a write is under way', 'setImmediate(() => process.exit(3));'],
  ['throws', "throw new Error('a fault');"],
  ['has flushed them, and is killed', "await flush(log); process.kill(process.pid, 'SIGKILL');"],
])('every line is written, once and in its order, by a process that %s', async (_, end) => {
  const lines = (await logAndEnd(end)).trimEnd().split('\n');
  expect(lines.map((line) => (JSON.parse(line) as { n: number }).n)).toEqual(
    Array.from({ length: 2000 }, (__, n) => n),
  );
});
