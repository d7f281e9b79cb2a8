import { setTimeout as pause } from 'node:timers/promises';
import type { RowList } from 'postgres';
import { Session, type SessionOptions } from './session.ts';
import { ConnectionLostError, endsSession, isRolledBack } from './sql-errors.ts';
import type { Sql, Statement } from './statement.ts';
import { Patience } from './patience.ts';
import { Transaction } from './transaction.ts';

export interface PoolOptions extends SessionOptions {
  /** Connections at most. */
  readonly max: number;
}

interface Waiter {
  readonly resolve: (connection: Session) => void;
  readonly reject: (error: unknown) => void;
  /** By the monotonic clock. */
  readonly since: number;
}

const CHECK_EVERY_MS = 250;
/** How long to wait for a connection when all are in use. */
const ACQUIRE_TIMEOUT_MS = 5000;
/** Of what others' transactions were in the way of. Spread, so that the same two do not meet again. */
const MAX_TRIES = 3;
const RETRY_WITHIN_MS = 25;
const CLOSED = 'the database is closed';
/**
 * Connections that belong to one statement or one transaction at a time. Opened when needed, most recently used first; a connection
 * is used again only after it has been seen to be in order (docs/decisions/0025).
 */
export class Pool {
  readonly #options: PoolOptions;
  readonly #idle: Session[] = [];
  readonly #all = new Set<Session>();
  readonly #waiting: Waiter[] = [];
  readonly #timer: NodeJS.Timeout;
  readonly #patience = new Patience();
  #opening = 0;
  #closing: Promise<void> | undefined;
  #onEmpty: () => void = () => undefined;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#check(performance.now()), CHECK_EVERY_MS).unref();
  }

  /** Sends one statement, in a transaction of its own. */
  send<T extends readonly (object | undefined)[]>(statement: Statement<T>, timeoutMs: number): Promise<RowList<T>> {
    return this.#use((session) => new Transaction(session, this.#patience, timeoutMs).runOne(statement));
  }

  /** Runs `work` in a transaction: committed when it resolves, rolled back when it rejects. It may be run more than once. */
  transaction<R>(work: (sql: Sql) => Promise<R>, timeoutMs: number): Promise<R> {
    return this.#use((session) => new Transaction(session, this.#patience, timeoutMs).run(work));
  }

  /** Waits for what is under way, for `drainMs` at most. */
  close(drainMs: number): Promise<void> {
    this.#closing ??= this.#drain(drainMs).finally(() => clearInterval(this.#timer));
    return this.#closing;
  }

  async #drain(drainMs: number): Promise<void> {
    const { promise: emptied, resolve } = Promise.withResolvers<void>();
    this.#onEmpty = resolve;
    const timer = setTimeout(resolve, drainMs);
    for (const waiter of this.#waiting.splice(0)) waiter.reject(new ConnectionLostError(CLOSED, 'none'));
    for (const session of this.#idle.splice(0)) void this.#end(session);
    this.#signalEmpty();
    await emptied;
    clearTimeout(timer);
    for (const session of this.#all) session.destroy(CLOSED);
  }

  /** Once more after a deadlock or a serialization failure: the server has rolled everything back. */
  async #use<R>(work: (session: Session) => Promise<R>): Promise<R> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#useOnce(work);
      } catch (error) {
        if (!isRolledBack(error) || tries === MAX_TRIES) throw error;
        await pause(Math.random() * RETRY_WITHIN_MS * tries);
      }
    }
  }

  async #useOnce<R>(work: (session: Session) => Promise<R>): Promise<R> {
    const session = await this.#acquire();
    try {
      const result = await work(session);
      this.#release(session);
      return result;
    } catch (error) {
      // What has befallen one session may have befallen all: the server restarted, failed over, or is out of reach.
      if (endsSession(error) || error instanceof ConnectionLostError) this.#retire();
      void this.#inspect(session);
      throw error;
    }
  }

  async #acquire(): Promise<Session> {
    if (this.#closing !== undefined) throw new ConnectionLostError(CLOSED, 'none');
    const idle = this.#idle.pop();
    if (idle !== undefined) return idle;
    const { promise, resolve, reject } = Promise.withResolvers<Session>();
    this.#waiting.push({ resolve, reject, since: performance.now() });
    this.#open();
    return promise;
  }

  /** Opens a session, unless enough for all that wait are being opened, or there are as many as may be. */
  #open(): void {
    if (this.#opening >= this.#waiting.length || this.#all.size + this.#opening >= this.#options.max) return;
    this.#opening += 1;
    const opening = Session.open(this.#options, (lost) => this.#lost(lost)).finally(() => (this.#opening -= 1));
    void opening.then(
      (session) => {
        this.#all.add(session);
        this.#release(session);
      },
      (error: unknown) => {
        // All of them, unless another session will come free: a waiter is not worth an attempt of its own each.
        const failed = this.#all.size + this.#opening > 0 ? 1 : this.#waiting.length;
        for (const waiter of this.#waiting.splice(0, failed)) waiter.reject(error);
        this.#signalEmpty();
      },
    );
  }

  #release(session: Session): void {
    if (!session.isUsable || (this.#closing !== undefined && this.#waiting.length === 0)) {
      void this.#end(session);
      return;
    }
    const waiter = this.#waiting.shift();
    if (waiter === undefined) this.#idle.push(session);
    else waiter.resolve(session);
  }

  /**
   * After an error: the driver may hand what it had received of a result to the next statement, and a transaction may be open. What
   * is not seen to be in order is thrown away.
   */
  async #inspect(session: Session): Promise<void> {
    if (await session.isInOrder()) this.#release(session);
    else session.destroy('the session was left in disorder');
  }

  #retire(): void {
    for (const session of this.#all) session.isRetired = true;
    for (const session of this.#idle.splice(0)) void this.#end(session);
  }

  async #end(session: Session): Promise<void> {
    await session.end().catch(() => undefined);
    this.#lost(session);
  }

  #lost(session: Session): void {
    if (!this.#all.delete(session)) return;
    const index = this.#idle.indexOf(session);
    if (index >= 0) this.#idle.splice(index, 1);
    this.#open();
    this.#signalEmpty();
  }

  #signalEmpty(): void {
    if (this.#all.size + this.#opening === 0) this.#onEmpty();
  }

  #check(now: number): void {
    for (const session of this.#all) session.checkDeadline(now);
    while (this.#waiting[0] !== undefined && now - this.#waiting[0].since > ACQUIRE_TIMEOUT_MS) {
      const busy = new ConnectionLostError(`no connection was free within ${ACQUIRE_TIMEOUT_MS} ms`, 'none');
      this.#waiting.shift()!.reject(busy);
    }
  }
}
