import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';

/**
 * `npm run check:drift`: fails when src/store/schema says something that no migration does. drizzle-kit is let loose on
 * a copy of the migrations; if it finds a migration to write, one is missing. That the migrations in turn make the
 * database that the schema describes is a test's matter (test/integration/store).
 */
const copy = mkdtempSync(join(tmpdir(), 'ringback-drift-'));
try {
  cpSync('migrations', copy, { recursive: true });
  const before = readdirSync(copy);
  const args = ['generate', '--dialect=postgresql', '--schema=./src/store/schema/*.ts', `--out=${relative('.', copy)}`];
  const { status, stdout, stderr } = spawnSync('drizzle-kit', args, { encoding: 'utf8' });
  const made = readdirSync(copy).filter((file) => !before.includes(file));
  if (status !== 0 || made.length > 0) {
    console.error(`${stdout}${stderr}`);
    console.error('The schema has changed and no migration says so: run npm run migration and commit what it writes.');
    process.exitCode = 1;
  } else {
    console.log('migrations and schema agree');
  }
} finally {
  rmSync(copy, { recursive: true, force: true });
}
