import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { ROOT, say } from './install.mjs';

const HEARTBEAT_MS = 2_000;
/** Long enough for the npm of a killed set-up, which works on, to come to its end. */
const DEAD_AFTER_MS = 30_000;

/**
 * `npm start` and `npm test` begun together must not empty node_modules under each other. The lock is a number that
 * grows, like that of src/embedded/lock.ts: whoever creates the next one after a finished or dead holder has it. It
 * lies outside the project, where npm ci does not remove it and git does not see it.
 */
export async function underLock(work) {
  const key = createHash('sha256').update(ROOT).digest('hex').slice(0, 12);
  const directory = join(os.tmpdir(), `ringback-setup-${process.getuid?.() ?? 0}-${key}`);
  fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
  let isTold = false;
  let path;
  while ((path = tryLock(directory)) === undefined) {
    if (!isTold) say('another set-up is at work here, waiting for it (if it was killed: 30 seconds) ...');
    isTold = true;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  const heartbeat = setInterval(() => fs.utimesSync(path, new Date(), new Date()), HEARTBEAT_MS);
  try {
    await work();
  } finally {
    clearInterval(heartbeat);
    fs.writeFileSync(path, 'done');
  }
}

function tryLock(directory) {
  const list = () => fs.readdirSync(directory).map(Number);
  const highest = Math.max(0, ...list());
  if (highest > 0 && isHeld(join(directory, String(highest)))) return undefined;
  const mine = highest + 1;
  const path = join(directory, String(mine));
  try {
    fs.writeFileSync(path, String(process.pid), { flag: 'wx' });
  } catch (error) {
    if (error.code === 'EEXIST') return undefined;
    throw error;
  }
  const isSurpassed = Math.max(...list()) > mine;
  const surplus = isSurpassed ? [mine] : list().filter((number) => number < mine);
  for (const number of surplus) fs.rmSync(join(directory, String(number)), { force: true });
  return isSurpassed ? undefined : path;
}

function isHeld(path) {
  try {
    return fs.readFileSync(path, 'utf8') !== 'done' && Date.now() - fs.statSync(path).mtimeMs < DEAD_AFTER_MS;
  } catch {
    return false; // surpassed since it was listed
  }
}
