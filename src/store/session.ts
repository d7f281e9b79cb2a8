import { connect, type Socket } from 'node:net';
import { once } from 'node:events';
import postgres, { type PendingQuery, type Row, type RowList, type Sql as Client } from 'postgres';
import { ARRAY_TYPES } from './array-types.ts';
import { AFTER_CONNECTING, sessionSettings } from './session-settings.ts';
import { codeOf, ConnectionLostError, endsSession } from './sql-errors.ts';

export interface SessionOptions {
  readonly url: string;
  readonly applicationName: string;
  /** Through a pooler such as PgBouncer, where each transaction may get another session: nothing may be kept in one. */
  readonly pooled: boolean;
  /** Tells the planner to prefer indexes. */
  readonly pinPlans: boolean;
  /** What the server allows a statement, until `setStatementTimeout` says otherwise; 0 for no limit. */
  readonly statementTimeoutMs: number;
  readonly onNotify?: (channel: string, payload: string) => void;
}

/** TCP keepalive of an idle connection, so that no firewall forgets it and a vanished server is noticed. */
const KEEP_ALIVE_S = 10;
/** From the start of connecting to the first answer: resolving, TCP, TLS, authentication, settings. */
const CONNECT_TIMEOUT_MS = 4000;
/** How much later than the server, which ends a statement with an error, we take a silent connection for lost. */
const SILENCE_MS = 750;
const FAREWELL_S = 1;
/** The driver gives up a connection to a server that is not what was asked for. */
const STANDBY = 'the server is a standby, which takes no writes';

/** An open transaction began before the statement that asks; a failed one refuses to answer. */
const INSPECTION = 'SELECT now() = statement_timestamp() AS "isClean"';

/** What the driver hands to its `socket` option. */
interface Target {
  readonly host: readonly string[];
  readonly port: readonly number[];
  readonly path?: string | false;
}

/**
 * One session: a client of the driver with a single connection, which is never opened a second time.
 *
 * It belongs to one user at a time, who may send several statements at once. That is what keeps the faults of the driver away from
 * everybody else (docs/decisions/0025): whatever is unusual about the end of a statement, the connection is not used again.
 */
export class Session {
  readonly #options: SessionOptions;
  readonly #client: Client;
  readonly #pending = new Set<(fault: Error) => void>();
  readonly #onLost: (session: Session) => void;
  #socket: Socket | undefined;
  #statementTimeoutMs: number;
  /** By the monotonic clock. */
  #deadline = Number.POSITIVE_INFINITY;
  #isOverdue = false;
  #isOpen = false;
  /** Tried so far. */
  #hosts = 0;
  #fault: Error | undefined;
  /** True when the next user should not get it: its server is suspected of having gone. */
  isRetired = false;

  /** @param onLost called once, when the connection is of no further use */
  private constructor(options: SessionOptions, onLost: (session: Session) => void) {
    this.#options = options;
    this.#onLost = onLost;
    this.#statementTimeoutMs = options.statementTimeoutMs;
    this.#client = postgres(options.url, {
      ...ARRAY_TYPES,
      max: 1,
      // Ours covers every step, and every attempt.
      connect_timeout: 0,
      // Connections end when they break and not otherwise.
      max_lifetime: null,
      idle_timeout: 0,
      keep_alive: KEEP_ALIVE_S,
      // Of several hosts the one that takes writes; of one, none when it does not.
      target_session_attrs: 'primary',
      prepare: !options.pooled,
      connection: {
        application_name: options.applicationName,
        ...(!options.pooled && sessionSettings(options.statementTimeoutMs, options.pinPlans)),
      },
      onnotice: () => undefined,
      onclose: () => this.#lose(new ConnectionLostError('the database closed the connection', 'unknown')),
      // Not in the package's types, but in its documentation.
      socket: (target: Target) => this.#open(target),
      ...(options.onNotify !== undefined && { onnotify: options.onNotify }),
    } as Parameters<typeof postgres>[1]);
  }

  /** @throws what the server refused the session with, or a `ConnectionLostError` */
  static async open(options: SessionOptions, onLost: (session: Session) => void = () => undefined): Promise<Session> {
    const session = new Session(options, onLost);
    const timer = setTimeout(
      () => session.#lose(new ConnectionLostError(`no connection within ${CONNECT_TIMEOUT_MS} ms`, 'none')),
      CONNECT_TIMEOUT_MS,
    );
    try {
      await session.send((client) => client.unsafe(options.pooled ? 'SELECT 1' : AFTER_CONNECTING));
    } catch (error) {
      session.destroy();
      // Nothing of anybody's has been sent on it.
      if (!(error instanceof ConnectionLostError)) throw error;
      const isStandby = codeOf(error.cause) === 'CONNECTION_DESTROYED';
      throw new ConnectionLostError(isStandby ? STANDBY : error.message, 'none', error.cause);
    } finally {
      clearTimeout(timer);
    }
    session.#isOpen = true;
    return session;
  }

  get isPooled(): boolean {
    return this.#options.pooled;
  }

  get isUsable(): boolean {
    return this.#fault === undefined && !this.isRetired;
  }

  /**
   * Sends a statement, behind those that were sent before. Rejects with the server's error, or with a `ConnectionLostError` when the
   * connection breaks or stays silent for longer than the server may take.
   */
  send<T extends readonly (object | undefined)[]>(write: (client: Client) => PendingQuery<Row[]>): Promise<RowList<T>> {
    const { promise, resolve, reject } = Promise.withResolvers<RowList<T>>();
    if (this.#fault !== undefined) {
      reject(new ConnectionLostError(this.#fault.message, 'none', this.#fault.cause));
      return promise;
    }
    // The answers come one after the other: what counts is how long the next one takes.
    if (this.#pending.size === 0) this.#expectAnswer();
    this.#pending.add(reject);
    write(this.#client).then(
      (rows) => {
        this.#settled(reject);
        resolve(rows as unknown as RowList<T>);
      },
      (error: unknown) => {
        this.#settled(reject);
        // With an error that is not the server's, what the driver has and has not sent is anybody's guess.
        if (!(error instanceof postgres.PostgresError) || endsSession(error)) this.#lose(lost(error));
        reject(CONNECTION_FAULT.test(codeOf(error)) ? lost(error) : error);
      },
    );
    return promise;
  }

  /** Whether the next user may have it: no transaction is open, and the driver reads answers as they are. */
  isInOrder(): Promise<boolean> {
    return this.send<{ isClean: boolean }[]>((client) => client.unsafe(INSPECTION)).then(
      (rows) => rows.length === 1 && rows[0]?.isClean === true,
      () => false,
    );
  }

  /** What the server allows the statements from now on. Travels with the next one. */
  setStatementTimeout(ms: number): void {
    if (ms === this.#statementTimeoutMs) return;
    this.#statementTimeoutMs = ms;
    if (!this.#options.pooled) {
      this.send((client) => client.unsafe(`SET statement_timeout = ${ms}`)).catch(() => this.destroy());
    }
  }

  /**
   * To be called every now and then: takes the connection for lost when an answer is overdue. Not before the second call that finds it
   * so: a process that was suspended, or busy, finds the answers of all that time waiting to be read.
   */
  checkDeadline(now: number): void {
    if (now < this.#deadline) return;
    if (this.#isOverdue)
      this.#lose(new ConnectionLostError(`no answer within ${this.#statementTimeoutMs + SILENCE_MS} ms`, 'unknown'));
    this.#isOverdue = true;
  }

  /** Ends the session at once; what is under way rejects. */
  destroy(reason = 'the connection was closed'): void {
    this.#lose(new ConnectionLostError(reason, 'unknown'));
  }

  /** Ends a session on which nothing is under way, and says so to the server. */
  async end(): Promise<void> {
    this.#fault ??= new ConnectionLostError('the connection was closed', 'none');
    await this.#client.end({ timeout: FAREWELL_S });
    this.#socket?.destroy();
  }

  #expectAnswer(): void {
    this.#isOverdue = false;
    const allowed = this.#statementTimeoutMs === 0 ? Number.POSITIVE_INFINITY : this.#statementTimeoutMs + SILENCE_MS;
    this.#deadline = performance.now() + allowed;
  }

  #settled(reject: (fault: Error) => void): void {
    this.#pending.delete(reject);
    if (this.#pending.size > 0) this.#expectAnswer();
    else this.#deadline = Number.POSITIVE_INFINITY;
  }

  #lose(fault: Error): void {
    if (this.#fault !== undefined) return;
    this.#fault = fault;
    this.#deadline = Number.POSITIVE_INFINITY;
    for (const reject of this.#pending) reject(fault);
    this.#pending.clear();
    this.#socket?.destroy();
    void this.#client.end({ timeout: 0 }).catch(() => undefined);
    this.#onLost(this);
  }

  /**
   * The driver's socket, connected already: one that breaks while the driver greets it would be greeted again. A driver that asks once
   * more gets the next of several hosts, and after the last one nothing.
   */
  async #open({ host, port, path }: Target): Promise<Socket> {
    let failure: unknown;
    while (this.#fault === undefined && this.#hosts < host.length) {
      const index = this.#hosts++;
      const name = host[index] ?? 'localhost';
      const socket = connect(path ? { path } : { host: name, port: port[index] ?? 5432 });
      this.#socket = socket;
      try {
        await once(socket, 'connect');
        // For the name in the certificate, and in the server's own choice of one.
        return this.#watch(Object.assign(socket, { host: name }));
      } catch (error) {
        failure ??= error;
      }
    }
    throw failure ?? new ConnectionLostError('the database closed the connection', 'none');
  }

  /** A broken socket has an error first and closes later; in between the driver takes the connection for usable. */
  #watch(socket: Socket): Socket {
    const onLost = (cause?: unknown) => {
      if (this.#isOpen) this.#lose(lost(cause));
    };
    return socket.once('error', onLost).once('close', () => onLost());
  }
}

const CONNECTION_FAULT = /^(?:CONNECTION_|CONNECT_TIMEOUT|E[A-Z_]{4,})/;

function lost(cause?: unknown): ConnectionLostError {
  if (cause instanceof ConnectionLostError) return cause;
  const reason = cause instanceof Error ? cause.message || codeOf(cause) || cause.name : 'the connection was lost';
  return new ConnectionLostError(reason, 'unknown', cause);
}
