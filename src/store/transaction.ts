import type { RowList } from 'postgres';
import type { Patience } from './patience.ts';
import type { Session } from './session.ts';
import { BEGIN, beginPooled } from './session-settings.ts';
import { ConnectionLostError, endsSession, isCanceled, NotCommittedError } from './sql-errors.ts';
import { createSql, type Sql, type Statement } from './statement.ts';

const LEFT_OPEN = 'a statement left a transaction open; transaction() is for that';

type Rows = readonly (object | undefined)[];

/**
 * One transaction on a session that nobody else uses meanwhile. Nothing counts as done unless its own commit was seen: a single
 * statement has committed when the server is ready for the next one, which is when the driver resolves it; a transaction when `COMMIT`
 * is answered with `COMMIT`, and not with the `ROLLBACK` that a failed transaction gets.
 */
export class Transaction {
  readonly #session: Session;
  readonly #patience: Patience;
  readonly #timeoutMs: number;
  #isOver = false;
  #failure: { readonly error: unknown } | undefined;

  constructor(session: Session, patience: Patience, timeoutMs: number) {
    this.#session = session;
    this.#patience = patience;
    this.#timeoutMs = timeoutMs;
  }

  /** Sends one statement, which the server commits by itself. Behind a pooler, which shares sessions, all at once with what it needs. */
  async runOne<T extends Rows>(statement: Statement<T>): Promise<RowList<T>> {
    const { isPooled } = this.#session;
    if (isPooled && !statement.isStandalone) {
      const timeoutMs = this.#patience.allow(statement.text, this.#timeoutMs);
      const begun = this.#command(beginPooled(timeoutMs));
      const sent = this.#send(statement);
      const committed = this.#command('COMMIT');
      const [, rows] = await Promise.all([begun, sent, committed]);
      expectCommit(await committed);
      return rows;
    }
    const rows = await this.#send(statement);
    const isOpen =
      /^(?:BEGIN|START TRANSACTION)$/.test(rows.command) || (statement.isScript && !(await this.#session.isInOrder()));
    if (!isOpen) return rows;
    this.#session.destroy(LEFT_OPEN);
    throw new NotCommittedError(LEFT_OPEN);
  }

  /** Commits when `work` resolves, rolls back when it rejects, or when one of its statements failed though it resolved. */
  async run<R>(work: (sql: Sql) => Promise<R>): Promise<R> {
    const result = await this.#work(work).catch(async (error: unknown) => {
      this.#isOver = true;
      // What fails here is found when the session is inspected.
      await this.#command('ROLLBACK').catch(() => undefined);
      throw this.#isLost(error) ? new ConnectionLostError('the connection was lost', 'none', error) : error;
    });
    this.#isOver = true;
    expectCommit(await this.#command('COMMIT'));
    return result;
  }

  async #work<R>(work: (sql: Sql) => Promise<R>): Promise<R> {
    await this.#command(this.#session.isPooled ? beginPooled(this.#timeoutMs) : BEGIN);
    const result = await work(createSql((statement) => this.#sendWithin(statement)));
    if (this.#failure !== undefined) throw this.#failure.error;
    return result;
  }

  /** Before its COMMIT a transaction leaves nothing behind, whatever became of the connection. */
  #isLost(error: unknown): boolean {
    return error instanceof ConnectionLostError || (endsSession(error) && !this.#session.isUsable);
  }

  async #sendWithin<T extends Rows>(statement: Statement<T>): Promise<RowList<T>> {
    if (this.#isOver) throw new Error('the transaction is over: a statement of it was not awaited');
    try {
      return await this.#send(statement);
    } catch (error) {
      this.#failure ??= { error };
      throw error;
    }
  }

  async #send<T extends Rows>(statement: Statement<T>): Promise<RowList<T>> {
    this.#session.setStatementTimeout(this.#patience.allow(statement.text, this.#timeoutMs));
    try {
      return await this.#session.send<T>((client) => statement.on(client));
    } catch (error) {
      if (isCanceled(error)) this.#patience.wasCanceled(statement.text);
      throw error;
    }
  }

  #command(text: string): Promise<RowList<object[]>> {
    return this.#session.send((client) => client.unsafe(text));
  }
}

function expectCommit({ command }: { readonly command: string }): void {
  if (command !== 'COMMIT') throw new NotCommittedError(`the transaction was not committed: ${command}`);
}
