import { setTimeout as delay } from 'node:timers/promises';
import { readPostmasterNote } from './cluster.ts';
import { EmbeddedPostgresError } from './errors.ts';
import { mayBeAlive } from './processes.ts';
import type { Server } from './server.ts';

export interface SupervisorOptions {
  readonly server: Server;
  readonly clusterDir: string;
  /** Starts the server again where it was, or takes over one that somebody else has started there meanwhile. */
  readonly restart: () => Promise<Server>;
  readonly stop: (server: Server) => Promise<void>;
  readonly onLog: (level: 'info' | 'error', message: string, fields: Readonly<Record<string, unknown>>) => void;
  /** Called once, when it is of no use to go on; nothing runs any more. */
  readonly onGivenUp: (error: unknown) => void;
}

const LOOK_MS = 500;
/** Before each try after the first: a full disk or a crowded machine may take a moment. */
const PAUSES_MS = [0, 500, 1000, 2000, 4000] as const;
/** A server that has run for so long has recovered: what happens next begins a new count. */
const STEADY_MS = 60_000;
/** What trying again does not mend. */
const FINAL: ReadonlySet<string> = new Set(['data_missing', 'data_version_mismatch', 'init_failed', 'stop_failed']);

/**
 * Keeps a server running that others may end: the kernel when memory is out, an operator by mistake, somebody else's script. It comes
 * back on its port, after the recovery that PostgreSQL itself makes, so that the service goes on as after any outage of a database.
 */
export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #timer: NodeJS.Timeout;
  #server: Server;
  #work: Promise<void> | undefined;
  #isStopping = false;
  /** Ends and failed starts in a row. */
  #failures = 0;
  #readyAt = performance.now();

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#server = options.server;
    this.#timer = setInterval(() => this.#look(), LOOK_MS).unref();
  }

  /** Stops the server, whether it runs or is just being started again. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    clearInterval(this.#timer);
    await this.#work;
    await this.#options.stop(this.#server);
  }

  #look(): void {
    if (this.#isStopping || this.#work !== undefined) return;
    this.#work = this.#reviveIfEnded().finally(() => (this.#work = undefined));
  }

  async #reviveIfEnded(): Promise<void> {
    const { clusterDir, onLog, onGivenUp } = this.#options;
    try {
      const { pid } = this.#server.process;
      const isAlive = mayBeAlive(this.#server.process);
      const note = isAlive ? await readPostmasterNote(clusterDir) : undefined;
      // Told to stop by somebody else, it may wait for our sessions to end for as long as we live. Without its note it has lost its
      // directory, which PostgreSQL notices within a minute.
      if (isAlive && note?.pid === pid && note.status !== 'stopping') return;
      if (this.#isStopping) return;
      onLog('error', 'embedded PostgreSQL ended; starting it again', { pid, state: isAlive ? 'stopping' : 'ended' });
      await this.#options.stop(this.#server);
      await this.#revive();
    } catch (error) {
      clearInterval(this.#timer);
      if (!this.#isStopping) onGivenUp(error);
    }
  }

  async #revive(): Promise<void> {
    if (performance.now() - this.#readyAt > STEADY_MS) this.#failures = 0;
    let failure: unknown = new EmbeddedPostgresError('start_failed', KEEPS_ENDING);
    while (this.#failures < PAUSES_MS.length) {
      await delay(PAUSES_MS[this.#failures]);
      if (this.#isStopping) return;
      this.#failures += 1;
      try {
        this.#server = await this.#options.restart();
        this.#readyAt = performance.now();
        this.#options.onLog('info', 'embedded PostgreSQL runs again', { pid: this.#server.process.pid });
        return;
      } catch (error) {
        if (error instanceof EmbeddedPostgresError && FINAL.has(error.code)) throw error;
        this.#options.onLog('error', 'embedded PostgreSQL does not start again', { err: error, tries: this.#failures });
        failure = error;
      }
    }
    throw failure;
  }
}

const KEEPS_ENDING =
  `The embedded PostgreSQL was ended ${PAUSES_MS.length} times, each within a minute of its start. See postgres.log in the ` +
  'data directory and the log of the system (is it out of memory?), then start again, or set DATABASE_URL.';
