import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { tryLock } from '#embedded/lock.ts';
import { identify, identifyFromPs } from '#embedded/processes.ts';
import { Workspace } from './workspace.ts';

describe('one data directory, several starters', { timeout: 60_000 }, () => {
  it('tells the second who holds it and what to do', async () => {
    await using workspace = await Workspace.create();
    const holder = await workspace.hold();
    await expect(workspace.start()).rejects.toMatchObject({
      name: 'EmbeddedPostgresError',
      code: 'already_running',
      message: expect.stringMatching(new RegExp(`pid ${holder.report.pid}\\).*RINGBACK_DATA_DIR.*DATABASE_URL`)),
    });
  });

  it('lets exactly one of two simultaneous first starts win', async () => {
    await using workspace = await Workspace.create();
    const holders = await Promise.all([workspace.hold(), workspace.hold()]);
    const winner = holders.find(({ report }) => report.ok);
    const losers = holders.filter(({ report }) => !report.ok);
    expect(losers).toHaveLength(1);
    expect(losers[0]!.report.code).toBe('already_running');
    expect(losers[0]!.report.message).toContain(`pid ${winner!.report.pid}`);
  });

  it('refuses a second start in the same process, and allows it after the stop', async () => {
    await using workspace = await Workspace.create();
    const first = await workspace.start();
    await expect(workspace.start()).rejects.toMatchObject({ code: 'already_running' });
    await first.stop();
    await workspace.start();
  });
});

describe('the lock', () => {
  let directory: string;
  beforeEach(async () => {
    directory = join(await mkdtemp(join(tmpdir(), 'ringback-lock-')), 'lock');
  });
  afterEach(async () => rm(join(directory, '..'), { recursive: true }));

  const leftBy = async (pid: number, startedAt: string): Promise<void> => {
    await mkdir(directory);
    await writeFile(join(directory, '7'), `${pid} ${startedAt}`);
  };

  it('is taken from a dead holder by exactly one of many', async () => {
    await leftBy(2 ** 22 + 1, 'long ago'); // beyond the largest pid of Linux and macOS
    const attempts = await Promise.all(Array.from({ length: 25 }, async () => tryLock(directory)));
    expect(attempts.filter(({ ok }) => ok)).toHaveLength(1);
    expect(await readdir(directory)).toEqual(['8']);
  });

  it('is taken from a dead holder whose pid somebody else has now', async () => {
    await leftBy(process.pid, 'before the reboot');
    expect(await tryLock(directory)).toMatchObject({ ok: true });
  });

  it('is taken when a power failure left it empty', async () => {
    await mkdir(directory);
    await writeFile(join(directory, '7'), '');
    expect(await tryLock(directory)).toMatchObject({ ok: true });
  });

  it('goes from hand to hand without ever being held twice', async () => {
    let holders = 0;
    let turns = 0;
    const contender = async (): Promise<void> => {
      while (turns < 60) {
        const attempt = await tryLock(directory);
        if (!attempt.ok) continue;
        expect(++holders).toBe(1);
        await readdir(directory); // gives the others a chance to barge in
        holders--;
        turns++;
        await attempt.lock.release();
      }
    };
    await Promise.all(Array.from({ length: 8 }, contender));
    expect(await readdir(directory)).toHaveLength(1);
  });
});

describe('telling processes apart', () => {
  it('gives a living process one identity, and a dead one none', () => {
    expect(identify(process.pid)).toEqual(identify(process.pid));
    expect(identify(2 ** 22 + 1)).toBeUndefined();
  });

  it('does so by ps(1) too, where there is no /proc', ({ skip }) => {
    skip(!hasPs(), 'ps is not installed');
    expect(identifyFromPs(process.pid)).toMatchObject({ pid: process.pid, startedAt: expect.stringMatching(/\d{4}$/) });
    expect(identifyFromPs(process.pid)).toEqual(identifyFromPs(process.pid));
    expect(identifyFromPs(2 ** 22 + 1)).toBeUndefined();
  });
});

function hasPs(): boolean {
  try {
    return execFileSync('ps', ['-o', 'lstart=', '-p', String(process.pid)]).length > 0;
  } catch {
    return false;
  }
}
