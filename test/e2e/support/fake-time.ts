import { existsSync, writeFileSync, renameSync, mkdtempSync, chmodSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Where Debian's package `faketime` has it, by the machine's architecture. */
const LIBRARY = ['x86_64', 'aarch64']
  .map((machine) => `/usr/lib/${machine}-linux-gnu/faketime/libfaketime.so.1`)
  .find((path) => existsSync(path));

/** Why no clock can be set here; undefined where one can. */
export const NO_FAKE_TIME =
  LIBRARY === undefined ? 'libfaketime is missing: apt-get install faketime (Debian, Ubuntu)' : undefined;

/** The wall clock of the processes that are started with this environment: theirs alone, and only that clock. */
export interface FakeTime {
  readonly env: Readonly<Record<string, string>>;
  /** By how many seconds it is ahead from now on; negative for behind. */
  set(seconds: number): void;
  remove(): void;
}

export function fakeTime(seconds = 0): FakeTime {
  const folder = mkdtempSync(join(tmpdir(), 'ringback-clock-'));
  chmodSync(folder, 0o755); // a PostgreSQL that root starts runs as another user
  const file = join(folder, 'offset');
  const set = (ahead: number) => {
    writeFileSync(`${file}.new`, `${ahead < 0 ? '' : '+'}${ahead}\n`, { mode: 0o644 });
    renameSync(`${file}.new`, file);
  };
  set(seconds);
  return {
    env: {
      LD_PRELOAD: LIBRARY ?? '',
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DISABLE_SHM: '1',
      DONT_FAKE_MONOTONIC: '1',
    },
    set,
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
