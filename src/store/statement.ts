import type { Fragment, ParameterOrJSON, PendingQuery, Row, RowList, Sql as Client } from 'postgres';

type Rows = readonly (object | undefined)[];

/** A value, or a piece of SQL that was written with `sql` itself. */
// eslint-disable-next-line typescript/no-explicit-any -- what a piece of SQL would return, were it sent, does not matter
export type Parameter = ParameterOrJSON<never> | Uint8Array | readonly Date[] | Statement<any>;

/** Writes statements. They are sent when they are awaited, on a connection of the pool or on that of a transaction. */
export interface Sql {
  <T extends Rows = Row[]>(text: TemplateStringsArray, ...parameters: readonly Parameter[]): Statement<T>;
  /** A text with `$1`, `$2` ... in it; without parameters, several statements. */
  readonly unsafe: <T extends Rows = Row[]>(
    text: string,
    parameters?: readonly unknown[],
    options?: UnsafeOptions,
  ) => Statement<T>;
}

export interface UnsafeOptions {
  readonly prepare?: boolean;
  /** Not in a transaction, not even behind a pooler: VACUUM. */
  readonly standalone?: boolean;
}

/** Sends a statement; the connection or pool behind a `Sql`. */
export type Send = <T extends Rows>(statement: Statement<T>) => Promise<RowList<T>>;

/** Where each template was first used, for the stack of an error: it arrives long after the caller has returned. */
const origins = new WeakMap<TemplateStringsArray, string>();
const ORIGIN_FRAMES = 4;

/** One statement, or a piece of one. Sent at most once, when it is first awaited. */
export class Statement<T extends Rows> implements Promise<RowList<T>> {
  readonly [Symbol.toStringTag] = 'Statement';
  /** By which statements are known again. */
  readonly text: TemplateStringsArray | string;
  readonly #parameters: readonly unknown[];
  readonly #send: Send;
  readonly #options: UnsafeOptions | undefined;
  #asArrays = false;
  #sent: Promise<RowList<T>> | undefined;

  constructor(
    text: TemplateStringsArray | string,
    parameters: readonly unknown[],
    send: Send,
    options?: UnsafeOptions,
  ) {
    this.text = text;
    this.#parameters = parameters;
    this.#send = send;
    this.#options = options;
    if (typeof text !== 'string' && !origins.has(text)) origins.set(text, originOf());
  }

  /** Several statements in one text: the driver does not say how each of them ended. */
  get isScript(): boolean {
    return typeof this.text === 'string' && this.#parameters.length === 0 && this.text.includes(';');
  }

  get isStandalone(): boolean {
    return this.#options?.standalone === true;
  }

  /** Rows as arrays of columns, for drizzle. */
  values(): this {
    this.#asArrays = true;
    return this;
  }

  /** The statement as the driver's own, to be sent by that client. */
  on(client: Client): PendingQuery<Row[]> {
    const parameters = this.#parameters.map((parameter) =>
      parameter instanceof Statement ? parameter.on(client) : parameter,
    );
    const query =
      typeof this.text === 'string'
        ? client.unsafe<Row[]>(this.text, parameters as ParameterOrJSON<never>[], {
            prepare: this.#options?.prepare === true,
          })
        : client(this.text, ...(parameters as Fragment[]));
    return this.#asArrays ? (query.values() as unknown as typeof query) : query;
  }

  // eslint-disable-next-line unicorn/no-thenable -- a statement is sent when it is awaited
  then<Fulfilled = RowList<T>, Rejected = never>(
    onFulfilled?: ((rows: RowList<T>) => Fulfilled | PromiseLike<Fulfilled>) | null,
    onRejected?: ((error: unknown) => Rejected | PromiseLike<Rejected>) | null,
  ): Promise<Fulfilled | Rejected> {
    return this.#result().then(onFulfilled, onRejected);
  }

  catch<Rejected = never>(
    onRejected?: ((error: unknown) => Rejected | PromiseLike<Rejected>) | null,
  ): Promise<RowList<T> | Rejected> {
    return this.#result().catch(onRejected);
  }

  finally(onFinally?: (() => void) | null): Promise<RowList<T>> {
    return this.#result().finally(onFinally);
  }

  #result(): Promise<RowList<T>> {
    this.#sent ??= this.#send(this).catch((error: unknown) => {
      throw this.#locate(error);
    });
    return this.#sent;
  }

  #locate(error: unknown): unknown {
    const origin = typeof this.text === 'string' ? undefined : origins.get(this.text);
    if (error instanceof Error && origin !== undefined) {
      // The driver has made it read-only.
      Object.defineProperty(error, 'stack', { value: `${error.stack ?? ''}${origin}` });
    }
    return error;
  }
}

function originOf(): string {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = ORIGIN_FRAMES + 3;
  const { stack = '' } = new Error();
  Error.stackTraceLimit = limit;
  // The first line is the message; then come this function, the constructor and `sql` itself.
  return `\n${stack.split('\n').slice(4).join('\n')}`;
}

/** `sql` for whatever sends statements. */
export function createSql(send: Send): Sql {
  const sql = (text: TemplateStringsArray, ...parameters: readonly unknown[]) => new Statement(text, parameters, send);
  sql.unsafe = (text: string, parameters: readonly unknown[] = [], options?: UnsafeOptions) =>
    new Statement(text, parameters, send, options);
  return sql as Sql;
}
