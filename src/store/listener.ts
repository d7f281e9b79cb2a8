import { Session } from './session.ts';
import { codeOf, ConnectionLostError } from './sql-errors.ts';
import { createSql, type Sql } from './statement.ts';

export interface ListenerOptions {
  /** A direct connection: LISTEN, and locks that live as long as a session, are lost behind a pooler. */
  readonly url: string;
  readonly applicationName: string;
  readonly onError: (error: unknown) => void;
}

interface Channel {
  readonly hear: (payload: string) => void;
  readonly connected: () => void;
}

const STATEMENT_TIMEOUT_MS = 3500;
/** An idle connection that is silently gone is noticed by the next of these; how long until then, and how often it is looked at. */
const HEARTBEAT_MS = 2000;
const CHECK_EVERY_MS = 250;
const FIRST_RETRY_MS = 50;
const LAST_RETRY_MS = 1000;

/**
 * The one session that belongs to this process for as long as it lives: hears notifications, and holds what PostgreSQL is to let go
 * of when the process dies. When its connection is lost it is opened again, and everything is set up anew.
 */
export class Listener {
  readonly #options: ListenerOptions;
  readonly #channels = new Map<string, Channel[]>();
  readonly #preparations: ((sql: Sql) => Promise<unknown>)[] = [];
  readonly #timers: NodeJS.Timeout[];
  #session: Session | undefined;
  #connecting: Promise<void> | undefined;
  #isClosed = false;

  constructor(options: ListenerOptions) {
    this.#options = options;
    this.#timers = [
      setInterval(() => this.#session?.checkDeadline(performance.now()), CHECK_EVERY_MS).unref(),
      setInterval(() => this.#beat(), HEARTBEAT_MS).unref(),
    ];
  }

  /** Run on each new session before it listens, the present one included. Rejects with what the first time failed with. */
  async prepare(preparation: (sql: Sql) => Promise<unknown>): Promise<void> {
    this.#preparations.push(preparation);
    if (this.#session === undefined) await this.#connect();
    else await preparation(sqlOf(this.#session));
  }

  /**
   * Resolves when notifications of the channel are heard. `connected` is called then, and again after each lost connection, when
   * some may have been missed.
   */
  async listen(channel: string, hear: (payload: string) => void, connected: () => void): Promise<void> {
    this.#channels.set(channel, [...(this.#channels.get(channel) ?? []), { hear, connected }]);
    if (this.#session === undefined) return this.#connect();
    await listenTo(this.#session, [channel]);
    return connected();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const timer of this.#timers) clearInterval(timer);
    await this.#connecting?.catch(() => undefined);
    await this.#session?.end();
  }

  #connect(): Promise<void> {
    this.#connecting ??= this.#open().finally(() => (this.#connecting = undefined));
    return this.#connecting;
  }

  async #open(): Promise<void> {
    const { url, applicationName } = this.#options;
    const session = await Session.open(
      {
        url,
        applicationName,
        pooled: false,
        pinPlans: false,
        statementTimeoutMs: STATEMENT_TIMEOUT_MS,
        onNotify: (channel, payload) => this.#hear(channel, payload),
      },
      (lost) => this.#lost(lost),
    );
    try {
      for (const preparation of this.#preparations) await preparation(sqlOf(session));
      await listenTo(session, [...this.#channels.keys()]);
    } catch (error) {
      session.destroy();
      throw error;
    }
    if (!session.isUsable) throw new ConnectionLostError('the connection was lost', 'none');
    this.#session = session;
    for (const channels of this.#channels.values()) for (const { connected } of channels) connected();
  }

  #hear(channel: string, payload: string): void {
    for (const { hear } of this.#channels.get(channel) ?? []) hear(payload);
  }

  #beat(): void {
    // Its failure ends the session, which is heard of there.
    this.#session?.send((client) => client.unsafe('SELECT 1')).catch(() => undefined);
  }

  #lost(session: Session): void {
    if (this.#session !== session) return;
    this.#session = undefined;
    if (!this.#isClosed) this.#reconnect(FIRST_RETRY_MS);
  }

  #reconnect(delayMs: number): void {
    setTimeout(() => {
      if (this.#isClosed) return;
      this.#connect().catch((error: unknown) => {
        // An outage has been logged by those who need the database; what else is wrong has not.
        if (codeOf(error) !== 'CONNECTION_LOST') this.#options.onError(error);
        this.#reconnect(Math.min(2 * delayMs, LAST_RETRY_MS));
      });
    }, delayMs);
  }
}

function sqlOf(session: Session): Sql {
  return createSql((statement) => session.send((client) => statement.on(client)));
}

async function listenTo(session: Session, channels: readonly string[]): Promise<void> {
  for (const channel of channels) await session.send((client) => client.unsafe(`LISTEN "${channel}"`));
}
