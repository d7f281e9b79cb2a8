import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import postgres, { type Sql } from 'postgres';
import { type EmbeddedPostgres, type EmbeddedPostgresOptions, startEmbeddedPostgres } from '#embedded/postgres.ts';
import { identify, waitUntil } from '#embedded/processes.ts';

interface HolderReport {
  readonly ok: boolean;
  readonly pid: number;
  readonly url: string;
  readonly adopted: boolean;
  readonly code: string;
  readonly message: string;
}

export interface Holder {
  readonly report: HolderReport;
  /** Sends `signal` to its process group, as a terminal would, and waits for its end. */
  kill(signal: NodeJS.Signals): Promise<void>;
}

/** A data directory of its own, and everything started on it; disposing of it leaves neither process nor file. */
export class Workspace implements AsyncDisposable {
  readonly dataDir: string;
  readonly #started: EmbeddedPostgres[] = [];
  readonly #children: ChildProcess[] = [];
  readonly #parent: string;

  private constructor(parent: string) {
    this.#parent = parent;
    this.dataDir = join(parent, 'data');
  }

  /** `mode` of the directory around it: 0700, as mkdtemp makes it, shuts out the server's user when we are root. */
  static async create(mode = 0o755): Promise<Workspace> {
    const parent = await mkdtemp(join(tmpdir(), 'ringback-embedded-'));
    await chmod(parent, mode);
    return new Workspace(parent);
  }

  async start(options: Omit<EmbeddedPostgresOptions, 'dataDir'> = {}): Promise<EmbeddedPostgres> {
    const server = await startEmbeddedPostgres({ dataDir: this.dataDir, durable: false, ...options });
    this.#started.push(server);
    return server;
  }

  /** Starts in a process of its own, in its own process group. */
  async hold(durability: 'durable' | 'volatile' = 'volatile'): Promise<Holder> {
    const script = fileURLToPath(new URL('./holder.ts', import.meta.url));
    const child = spawn(process.execPath, [script, this.dataDir, durability], {
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: true,
    });
    this.#children.push(child);
    const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
    const kill = async (signal: NodeJS.Signals): Promise<void> => {
      const exit = once(child, 'exit');
      process.kill(-child.pid!, signal);
      await exit;
    };
    return { report: JSON.parse(line) as HolderReport, kill };
  }

  /** The pid in postmaster.pid. */
  serverPid(clusterDir = join(this.dataDir, 'postgres')): number {
    return Number(readFileSync(join(clusterDir, 'postmaster.pid'), 'utf8').split('\n')[0]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) {
      child.kill('SIGKILL');
      await untilGone(child.pid!);
    }
    // A killed holder leaves its server behind; starting once more finds it, so that it can be stopped.
    await Promise.all(this.#started.map(async (server) => server.stop()));
    if (this.#children.length > 0) await (await this.start()).stop();
    for (const server of this.#started) {
      const home = dirname(server.clusterDir);
      if (home !== server.dataDir) await rm(home, { recursive: true, force: true });
    }
    await rm(this.#parent, { recursive: true, force: true });
  }
}

export async function query<T>(url: string, work: (sql: Sql) => Promise<T>): Promise<T> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    return await work(sql);
  } finally {
    await sql.end();
  }
}

export async function untilGone(pid: number): Promise<boolean> {
  return waitUntil(() => identify(pid) === undefined, 10_000);
}
