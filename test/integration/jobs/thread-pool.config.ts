import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { threadId } from 'node:worker_threads';
import { z } from 'zod';
import {
  type AnyJobDefinition,
  defineConfig,
  defineJob,
  FileResult,
  type JobContext,
  NonRetryableError,
  RetryAfterError,
} from '#jobs/type/define.ts';

/**
 * Job types that run in threads, good and bad. Those that a test watches or steers take shared memory as their input,
 * which no real input is: what they do is then seen at once, and past the pool's own messages.
 */

/** A test that fails must not leave a thread that spins for ever. */
const LONGEST_MS = 20_000;
const PIECE_BYTES = 64 * 1024;

let calls = 0;

function spinUntil(isOver: () => boolean): void {
  const deadline = performance.now() + LONGEST_MS;
  while (!isOver()) if (performance.now() > deadline) throw new Error('nothing ended the spin');
}

/** Says that a cell has changed, to whoever waits for it. */
function count(cells: Int32Array, cell: number): number {
  const before = Atomics.add(cells, cell, 1);
  Atomics.notify(cells, cell);
  return before + 1;
}

function job<Input>(type: string, run: (context: JobContext<Input>) => unknown): AnyJobDefinition {
  return defineJob({ type, isolation: 'thread', input: z.custom<Input>(() => true), run });
}

const THROWN: Record<string, () => unknown> = {
  error: () => new TypeError('no such column'),
  non_retryable: () => new NonRetryableError('the file is empty'),
  retry_after: () => new RetryAfterError('the quota is used up', 90_000),
  text: () => 'just text',
  nothing: () => undefined,
  symbol: () => Symbol('odd'),
  trap: () => Object.assign(new Error('trap'), { name: Symbol('unclonable'), message: () => 'a function' }),
  proxy: () =>
    new Proxy(
      {},
      {
        get: () => {
          throw new Error('do not look');
        },
      },
    ),
};

const UNSERIALISABLE: Record<string, () => unknown> = {
  function: () => () => 1,
  bigint: () => ({ n: 10n }),
  cycle: () => {
    const self: Record<string, unknown> = {};
    return Object.assign(self, { self });
  },
  nul: () => 'a\0b',
};

const calling = [
  job('call.echo', ({ input }) => input),
  job<string>('call.exists', ({ input }) => existsSync(input)),
  job('call.where', () => ({ threadId, calls: ++calls })),
  job('call.context', ({ job: { id, type, accountId }, run }) => ({ id, type, accountId, run })),
  defineJob({
    type: 'call.double',
    isolation: 'thread',
    input: z.strictObject({ n: z.int() }),
    output: z.number().max(100),
    run: ({ input }) => input.n * 2,
  }),
  job<string>('call.throw', ({ input }) => {
    throw THROWN[input]!();
  }),
  job<string>('call.return', ({ input }) => UNSERIALISABLE[input]!()),
];

const reporting = [
  job<{ lines: number }>('report.lines', ({ input, progress, log }) => {
    for (let n = 1; n <= input.lines; n += 1) {
      progress((100 * n) / input.lines, `line ${n}`);
      log('info', `line ${n}`, { n });
    }
  }),
  job('report.oddly', ({ progress, log }) => {
    progress('half' as never, (() => 'a function') as never);
    progress(Number.NaN, Symbol('odd') as never);
    log('info', { toString: () => 'an object' } as never, { at: new Date(0), n: 10n });
    log('info', 'fields', { at: new Date(0) });
  }),
  /** Cell 0: it has started. Cell 1: begins it. Cell 2: lines so far. */
  job<Int32Array>('report.flood', ({ input: cells, log }) => {
    count(cells, 0);
    spinUntil(() => Atomics.load(cells, 1) === 1);
    for (let n = 0; n < 5000; n += 1) {
      log('info', String(n));
      count(cells, 2);
    }
  }),
  job<Int32Array>('report.late', ({ input: cells, log }) => {
    const late = setInterval(() => {
      for (let n = 0; n < 5000; n += 1) log('info', 'too late');
      if (count(cells, 0) === 3) clearInterval(late);
    }, 1);
  }),
];

const stopping = [
  job<Int32Array>('stop.listen', async ({ input: cells, signal }) => {
    count(cells, 0);
    await once(signal, 'abort');
    const { name, message } = signal.reason as Error;
    return { name, message };
  }),
  /** Cell 0: it has started. Cell 1: grows while it runs. Cell 2: ends it. */
  job<Int32Array>('stop.spin', ({ input: cells }) => {
    count(cells, 0);
    spinUntil(() => {
      Atomics.add(cells, 1, 1);
      return Atomics.load(cells, 2) === 1;
    });
    return 'released';
  }),
  job<Int32Array>('stop.meet', ({ input: cells }) => {
    count(cells, 0);
    spinUntil(() => Atomics.load(cells, 0) === 2);
    return threadId;
  }),
  /** Native code that no thread can be stopped in: a child process that writes a file, waits for one, writes another. */
  job<Record<'begun' | 'go' | 'gone', string>>('stop.child', ({ input: { begun, go, gone } }) => {
    const script = ': > "$0"; n=0; until [ -e "$1" ] || [ $n -ge 200 ]; do n=$((n+1)); sleep 0.1; done; : > "$2"';
    execFileSync('sh', ['-c', script, begun, go, gone]);
  }),
];

const dying = [
  job<number>('die.exit', ({ input, log }) => {
    for (let n = 1; n <= 500; n += 1) log('info', `line ${n}`);
    process.exit(input);
  }),
  job('die.uncaught', () => {
    setTimeout(() => {
      throw new RangeError('nobody caught this');
    });
    return new Promise(() => {});
  }),
  job('die.unhandled', () => {
    void Promise.reject(new Error('nobody handled this'));
    return new Promise(() => {});
  }),
  job('die.memory', () => {
    const kept: unknown[] = [];
    for (;;) kept.push({ n: kept.length, text: 'x'.repeat(100) + kept.length });
  }),
  job<Int32Array>('die.later', ({ input: cells }) => {
    const timer = setInterval(() => {
      if (Atomics.load(cells, 0) === 0) return;
      clearInterval(timer);
      throw new Error('left behind');
    }, 1);
  }),
];

/** Counts the pieces made in cell 0, and in cell 1 that it was closed. */
async function* pieces(cells: Int32Array, number: number): AsyncGenerator<Uint8Array> {
  try {
    for (let n = 0; n < number; n += 1) {
      count(cells, 0);
      yield new Uint8Array(PIECE_BYTES).fill(n);
    }
  } finally {
    count(cells, 1);
  }
}

const filing = [
  job<{ cells: Int32Array; pieces: number }>(
    'file.pieces',
    ({ input }) => new FileResult(pieces(input.cells, input.pieces), 'application/pdf'),
  ),
  job<number>('file.bytes', ({ input }) => {
    const bytes = Buffer.allocUnsafe(input + 10);
    for (let n = 0; n < bytes.length; n += 1) bytes[n] = n % 251;
    return new FileResult(bytes.subarray(10), 'image/png');
  }),
  job('file.mistyped', () => new FileResult(new Uint8Array(1), 'not a content type')),
  job(
    'file.words',
    () =>
      new FileResult(
        (async function* () {
          yield 'text';
        })() as never,
        'text/plain',
      ),
  ),
  job<string>('file.throw', ({ input, progress }) => {
    async function* body() {
      yield new Uint8Array([1, 2, 3]);
      progress(50, 'half');
      throw THROWN[input]!();
    }
    return new FileResult(body(), 'text/csv');
  }),
  job('file.exit', () => {
    async function* body() {
      yield new Uint8Array([1, 2, 3]);
      process.exit(4);
    }
    return new FileResult(body(), 'text/csv');
  }),
  /** Its second piece never comes, and nothing can close it. */
  job<Int32Array>('file.stuck', ({ input: cells }) => {
    const next = () =>
      count(cells, 0) === 1 ? { done: false, value: new Uint8Array([1, 2, 3]) } : new Promise(() => {});
    const body = { [Symbol.asyncIterator]: () => ({ next, return: () => new Promise(() => {}) }) };
    return new FileResult(body as never, 'text/csv');
  }),
  job<Int32Array>('file.after-abort', async ({ input: cells, signal }) => {
    count(cells, 0);
    await once(signal, 'abort');
    return new FileResult(pieces(cells, 10), 'text/csv');
  }),
];

export default defineConfig({ jobs: [...calling, ...reporting, ...stopping, ...dying, ...filing] });
