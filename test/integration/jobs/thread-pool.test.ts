import { execFile } from 'node:child_process';
import { access, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { NonRetryableError, RetryAfterError } from '../../../src/jobs/type/define.ts';
import { failureOf, type HandlerContext, type HandlerOutcome } from '../../../src/jobs/run/handler.ts';
import { ThreadPool, type ThreadPoolOptions } from '../../../src/jobs/thread/thread-pool.ts';
import { eventually } from '../../support/eventually.ts';

const CONFIG = fileURLToPath(new URL('./thread-pool.config.ts', import.meta.url));
/** Far longer than any of these tests: where a thread has to be ended, only the abort of the test may do it. */
const LONG_MS = 600_000;

const pools: ThreadPool[] = [];
afterEach(() => Promise.all(pools.splice(0).map((pool) => pool.close())));

function openPool(options: Partial<ThreadPoolOptions> = {}): ThreadPool {
  const pool = new ThreadPool({ configFile: CONFIG, diagnostics: true, maxThreads: 1, ...options });
  pools.push(pool);
  return pool;
}

type Reported = ['progress', number, unknown] | ['log', string, string, unknown];

function contextOf(type: string, reported: Reported[] = []): HandlerContext {
  return {
    progress: (percent, message) => reported.push(['progress', percent, message]),
    log: (level, message, fields) => reported.push(['log', level, message, fields]),
    job: { id: 'job_1', type, accountId: 'acc_1' },
    run: { id: 'run_1', number: 2 },
  };
}

function call(
  pool: ThreadPool,
  type: string,
  input: unknown = null,
  more: { signal?: AbortSignal; to?: Reported[] } = {},
) {
  const { signal = new AbortController().signal, to } = more;
  return pool.run({ type, input, context: contextOf(type, to) }, signal);
}

async function valueOf(outcome: Promise<HandlerOutcome>): Promise<unknown> {
  const ended = await outcome;
  if (ended.kind !== 'value') throw new Error(`it ended otherwise: ${JSON.stringify(ended)}`);
  return JSON.parse(ended.text);
}

async function bodyOf(outcome: Promise<HandlerOutcome>): Promise<AsyncIterable<Uint8Array>> {
  const ended = await outcome;
  if (ended.kind !== 'file') throw new Error(`it ended otherwise: ${JSON.stringify(ended)}`);
  return ended.body;
}

function failure(message: unknown, more: object = {}) {
  return { kind: 'failed', error: { code: 'handler_error', message }, retryable: true, retryAfterMs: null, ...more };
}

const NOT_STARTED = failure('It was stopped before it started.');

/** Memory that the test and a thread share. */
function sharedCells(): Int32Array {
  return new Int32Array(new SharedArrayBuffer(16));
}

async function reaches(cells: Int32Array, cell: number, value: number): Promise<void> {
  for (let now = Atomics.load(cells, cell); now < value; now = Atomics.load(cells, cell)) {
    await Atomics.waitAsync(cells, cell, now).value;
  }
}

async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'ringback-threads-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  return directory;
}

/** The files that say that the child of `stop.child` has begun, end it, and say that it has ended. */
async function childFiles(): Promise<Record<'begun' | 'go' | 'gone', string>> {
  const directory = await temporaryDirectory();
  return { begun: join(directory, 'begun'), go: join(directory, 'go'), gone: join(directory, 'gone') };
}

describe('a handler in a thread', () => {
  test('is called with its input and context, in a thread that keeps for later calls what it has loaded', async () => {
    const pool = openPool();
    const input = JSON.parse('{"a":[1,"ä",null,{"b":true}],"__proto__":{"c":1}}') as unknown;
    expect(await call(pool, 'call.echo', input)).toEqual({ kind: 'value', text: JSON.stringify(input) });
    expect(await valueOf(call(pool, 'call.context'))).toEqual({
      id: 'job_1',
      type: 'call.context',
      accountId: 'acc_1',
      run: { id: 'run_1', number: 2 },
    });
    const first = (await valueOf(call(pool, 'call.where'))) as { threadId: number; calls: number };
    expect(first).toEqual({ threadId: expect.any(Number), calls: 1 });
    expect(await valueOf(call(pool, 'call.where'))).toEqual({ threadId: first.threadId, calls: 2 });
  });

  test('has its input and its output checked', async () => {
    const pool = openPool();
    expect(await valueOf(call(pool, 'call.double', { n: 4 }))).toBe(8);
    const badInput = { kind: 'failed', error: { code: 'invalid_input', message: expect.stringContaining('/n') } };
    expect(await call(pool, 'call.double', { n: 'four' })).toMatchObject({ ...badInput, retryable: false });
    const badOutput = { kind: 'failed', error: { code: 'invalid_output' }, retryable: false };
    expect(await call(pool, 'call.double', { n: 51 })).toMatchObject(badOutput);
  });

  test.each([
    ['an Error', 'error', failure('TypeError: no such column')],
    ['a NonRetryableError', 'non_retryable', failure('NonRetryableError: the file is empty', { retryable: false })],
    ['a RetryAfterError', 'retry_after', failure('RetryAfterError: the quota is used up', { retryAfterMs: 90_000 })],
    ['text', 'text', failure('The handler threw "just text", which is not an Error.')],
    ['nothing', 'nothing', failure('The handler threw undefined, which is not an Error.')],
    ['a symbol', 'symbol', failure('The handler threw symbol, which is not an Error.')],
    ['an Error that cannot be cloned', 'trap', failure(expect.any(String))],
    ['what cannot be looked at', 'proxy', failure(expect.any(String))],
  ])('that throws %s fails as it would without a thread', async (_thrown, input, expected) => {
    expect(await call(openPool(), 'call.throw', input)).toMatchObject(expected);
  });

  test.each(['function', 'bigint', 'cycle', 'nul'])(
    'that returns what is no JSON (%s) fails for good',
    async (input) => {
      const expected = { kind: 'failed', error: { code: 'invalid_output' }, retryable: false };
      expect(await call(openPool(), 'call.return', input)).toMatchObject(expected);
    },
  );

  test('cannot be given what cannot be cloned, and the pool goes on', async () => {
    const pool = openPool();
    const uncloneable = failure(expect.stringContaining('DataCloneError'));
    expect(await call(pool, 'call.echo', () => {})).toEqual(uncloneable);
    expect(await valueOf(call(pool, 'call.echo', 1))).toBe(1);
  });

  test('is not called when its type is unknown to the configuration file', async () => {
    expect(await call(openPool(), 'call.nothing')).toEqual(
      failure(expect.stringContaining('no job type call.nothing')),
    );
  });
});

describe('what a handler reports', () => {
  test('arrives in order, the last of it before the outcome', async () => {
    const reported: Reported[] = [];
    await call(openPool(), 'report.lines', { lines: 2500 }, { to: reported });
    expect(reported).toHaveLength(5000);
    const expected = Array.from({ length: 2500 }, (_, n) => [
      ['progress', (100 * (n + 1)) / 2500, `line ${n + 1}`],
      ['log', 'info', `line ${n + 1}`, { n: n + 1 }],
    ]).flat();
    expect(reported).toEqual(expected);
  });

  test('arrives before the outcome when the handler ends its thread, too', async () => {
    const reported: Reported[] = [];
    await call(openPool(), 'die.exit', 1, { to: reported });
    expect(reported.map(([, , text]) => text)).toEqual(Array.from({ length: 500 }, (_, n) => `line ${n + 1}`));
  });

  test('is passed on as text when it cannot be cloned, and fails no run', async () => {
    const reported: Reported[] = [];
    expect(await valueOf(call(openPool(), 'report.oddly', null, { to: reported }))).toBeNull();
    expect(reported).toEqual([
      ['progress', 'half', "() => 'a function'"],
      ['progress', Number.NaN, 'Symbol(odd)'],
      ['log', 'info', 'an object', { fields_error: expect.stringContaining('BigInt') }],
      ['log', 'info', 'fields', { at: '1970-01-01T00:00:00.000Z' }],
    ]);
  });

  test('waits in the thread, not in memory, while the parent does not listen', async () => {
    const cells = sharedCells();
    const reported: Reported[] = [];
    const flooded = call(openPool(), 'report.flood', cells, { to: reported });
    await reaches(cells, 0, 1);
    Atomics.store(cells, 1, 1);
    // This thread stands still, the other should: after its thousandth line it waits for the first to be taken.
    while (Atomics.load(cells, 2) < 999) Atomics.wait(cells, 2, Atomics.load(cells, 2), 1000);
    Atomics.wait(cells, 2, 999, 100);
    expect(Atomics.load(cells, 2)).toBe(999);
    await flooded;
    expect(reported.map(([, , text]) => text)).toEqual(Array.from({ length: 5000 }, (_, n) => String(n)));
  });

  test('too late, after the outcome, is dropped, and stops neither the thread nor its next call', async () => {
    const cells = sharedCells();
    const reported: Reported[] = [];
    const pool = openPool();
    await call(pool, 'report.late', cells, { to: reported });
    const atEnd = reported.length;
    await reaches(cells, 0, 3);
    expect(await valueOf(call(pool, 'call.echo', 1))).toBe(1);
    expect(reported).toHaveLength(atEnd);
  });

  test('does no harm when it makes the parent throw', async () => {
    const context = {
      ...contextOf('report.lines'),
      log: () => {
        throw new Error('no');
      },
    };
    const { signal } = new AbortController();
    const outcome = openPool().run({ type: 'report.lines', input: { lines: 2000 }, context }, signal);
    expect(await valueOf(outcome)).toBeNull();
  });
});

describe('threads', () => {
  test('leave the event loop of the parent free', async () => {
    const cells = sharedCells();
    const spun = call(openPool(), 'stop.spin', cells);
    await reaches(cells, 0, 1);
    for (let turns = 0; turns < 100; turns += 1) await nextTurn();
    expect(Atomics.load(cells, 2)).toBe(0);
    Atomics.store(cells, 2, 1);
    expect(await valueOf(spun)).toBe('released');
  });

  test('run at the same time, as many as there may be', async () => {
    const cells = sharedCells();
    const pool = openPool({ maxThreads: 2 });
    const met = await Promise.all([valueOf(call(pool, 'stop.meet', cells)), valueOf(call(pool, 'stop.meet', cells))]);
    expect(new Set(met).size).toBe(2);
  });

  test('are no more than there may be: a call waits for its turn', async () => {
    const cells = sharedCells();
    const pool = openPool({ maxThreads: 2 });
    const held = [sharedCells(), sharedCells()].map((own) => ({ own, spun: call(pool, 'stop.spin', own) }));
    await Promise.all(held.map(({ own }) => reaches(own, 0, 1)));
    const waiting = [call(pool, 'stop.spin', cells), call(pool, 'call.echo', 2)];
    Atomics.store(cells, 2, 1);
    for (let turns = 0; turns < 50; turns += 1) await nextTurn();
    expect(Atomics.load(cells, 0)).toBe(0);
    Atomics.store(held[0]!.own, 2, 1);
    expect(await Promise.all(waiting.map(valueOf))).toEqual(['released', 2]);
    Atomics.store(held[1]!.own, 2, 1);
    await Promise.all(held.map(({ spun }) => spun));
  });

  test('are ended when they have been idle, and started again', async () => {
    const pool = openPool({ idleTimeoutMs: 1 });
    const first = (await valueOf(call(pool, 'call.where'))) as { threadId: number };
    await eventually(async () => {
      const later = (await valueOf(call(pool, 'call.where'))) as { threadId: number };
      expect(later.threadId).toBeGreaterThan(first.threadId);
    });
  });

  /** What came of two calls in a process of their own, which must end by itself. */
  async function runInNode(...flags: string[]): Promise<{ execArgv: string[]; outcomes: unknown[] }> {
    const script = fileURLToPath(new URL('./run-in-threads.ts', import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, [...flags, script, CONFIG], { timeout: 20_000 });
    return JSON.parse(stdout) as { execArgv: string[]; outcomes: unknown[] };
  }

  test('start under the flags of npm start, and do not keep the process', async () => {
    const { scripts } = JSON.parse(await readFile('package.json', 'utf8')) as { scripts: { start: string } };
    const flags = scripts.start.split(' ').slice(1, -1);
    expect(flags.join(' ')).toMatch(/--max-semi-space-size=\d+ --heap-growing-percent=\d+/);
    expect(await runInNode(...flags)).toMatchObject({
      execArgv: flags,
      outcomes: [
        { kind: 'value', text: '{"n":1}' },
        failure('NonRetryableError: the file is empty', { retryable: false }),
      ],
    });
  });

  test.each([
    ['end before they take a call', 'process.exit(9);', 'exit code 9'],
    ['throw before they take a call', `throw new Error('no agent');`, 'no agent'],
  ])('that %s fail it, and hang nobody', async (_how, fault, message) => {
    const preload = `import { isMainThread } from 'node:worker_threads'; if (!isMainThread) { ${fault} }`;
    const { outcomes } = await runInNode('--import', `data:text/javascript,${encodeURIComponent(preload)}`);
    expect(outcomes).toEqual(Array(2).fill(failure(expect.stringContaining(message))));
  });
});

describe('a call whose signal aborts', () => {
  const timedOut = () => new DOMException('The run took longer than 5 ms.', 'TimeoutError');

  test('aborts the handler with the same reason, and ends as the handler does', async () => {
    const cells = sharedCells();
    const abort = new AbortController();
    const pool = openPool({ graceMs: LONG_MS });
    const listening = call(pool, 'stop.listen', cells, abort);
    await reaches(cells, 0, 1);
    abort.abort(timedOut());
    expect(await valueOf(listening)).toEqual({ name: 'TimeoutError', message: 'The run took longer than 5 ms.' });
    expect(await valueOf(call(pool, 'call.where'))).toMatchObject({ calls: 1 });
  });

  test('takes the thread of a handler that does not listen, whose place another takes', async () => {
    const cells = sharedCells();
    const abort = new AbortController();
    const pool = openPool({ graceMs: 1 });
    const spun = call(pool, 'stop.spin', cells, abort);
    await reaches(cells, 0, 1);
    const next = call(pool, 'call.echo', 1);
    abort.abort(timedOut());
    expect(await spun).toEqual(
      failure('It did not stop within 1 ms when told to (The run took longer than 5 ms.): its thread was ended.'),
    );
    expect(await valueOf(next)).toBe(1);
    const atEnd = Atomics.load(cells, 1);
    await call(pool, 'call.echo', 2);
    expect(Atomics.load(cells, 1)).toBe(atEnd);
  });

  test.each([
    ['before', (abort: AbortController) => abort.abort(), () => {}],
    ['in the same turn', () => {}, (abort: AbortController) => abort.abort()],
  ])('%s never starts', async (_when, before, after) => {
    const cells = sharedCells();
    const abort = new AbortController();
    const pool = openPool();
    before(abort);
    const spun = call(pool, 'stop.spin', cells, abort);
    after(abort);
    expect(await spun).toEqual(NOT_STARTED);
    expect(await valueOf(call(pool, 'call.echo', 1))).toBe(1);
    expect(Atomics.load(cells, 0)).toBe(0);
  });

  test('while it waits never starts, and those behind it do', async () => {
    const [cells, never] = [sharedCells(), sharedCells()];
    const abort = new AbortController();
    const pool = openPool();
    const held = call(pool, 'stop.spin', cells);
    const waiting = call(pool, 'stop.spin', never, abort);
    const behind = call(pool, 'call.echo', 1);
    await reaches(cells, 0, 1);
    abort.abort(timedOut());
    expect(await waiting).toEqual(NOT_STARTED);
    Atomics.store(cells, 2, 1);
    expect(await valueOf(held)).toBe('released');
    expect(await valueOf(behind)).toBe(1);
    expect(Atomics.load(never, 0)).toBe(0);
  });

  test('gives up its place only when its thread is gone: native code cannot be stopped', async () => {
    const child = await childFiles();
    const abort = new AbortController();
    const pool = openPool({ graceMs: 1 });
    const stuck = call(pool, 'stop.child', child, abort);
    await eventually(() => access(child.begun));
    abort.abort(timedOut());
    expect(await stuck).toEqual(failure(expect.stringContaining('did not stop within 1 ms')));
    const next = call(pool, 'call.exists', child.gone);
    // The next call would be over by now, had it started: these started later and did as much.
    await call(openPool(), 'call.echo');
    await call(openPool(), 'call.echo');
    await writeFile(child.go, '');
    expect(await valueOf(next)).toBe(true);
  });
});

describe('a handler that ends its thread', () => {
  test.each([
    ['by process.exit()', 'die.exit', 3, failure('The handler ended its thread, with exit code 3.')],
    ['by process.exit(0)', 'die.exit', 0, failure('The handler ended its thread, with exit code 0.')],
    [
      'by an uncaught exception',
      'die.uncaught',
      null,
      failure(expect.stringMatching(/RangeError: nobody caught this$/)),
    ],
    ['by an unhandled rejection', 'die.unhandled', null, failure(expect.stringMatching(/Error: nobody handled this$/))],
    ['by using up its memory', 'die.memory', null, failure('The handler needed more memory than its thread may have.')],
  ])('%s fails this run only', async (_how, type, input, expected) => {
    const cells = sharedCells();
    const pool = openPool({ maxThreads: 2, maxOldSpaceMb: 40 });
    const other = call(pool, 'stop.spin', cells);
    expect(await call(pool, type, input)).toMatchObject(expected);
    expect(await valueOf(call(pool, 'call.echo', 1))).toBe(1);
    Atomics.store(cells, 2, 1);
    expect(await valueOf(other)).toBe('released');
  });

  test('after its call is reported, and fails no other', async () => {
    const cells = sharedCells();
    const onError = vi.fn<(error: unknown) => void>();
    const pool = openPool({ onError });
    await call(pool, 'die.later', cells);
    Atomics.store(cells, 0, 1);
    await eventually(() => {
      expect(onError.mock.calls).toEqual([[expect.objectContaining({ message: 'left behind' })]]);
    });
    expect(await valueOf(call(pool, 'call.echo', 1))).toBe(1);
  });
});

describe('a configuration file', () => {
  async function writeConfig(text: string): Promise<string> {
    const path = join(await temporaryDirectory(), 'ringback.config.ts');
    await writeFile(path, text);
    return path;
  }

  test.each([
    [
      'throws',
      `throw new Error('STRIPE_KEY is not set');`,
      /ringback\.config\.ts: failed to load: STRIPE_KEY is not set/,
    ],
    ['is no TypeScript', `export default {`, /ringback\.config\.ts: failed to load: /],
    ['defines nothing', `export default {};`, /ringback\.config\.ts: should say/],
    ['ends the thread', `process.exit(7);`, /ended its thread, with exit code 7/],
  ])('that %s fails the run', async (_fault, text, message) => {
    const pool = openPool({ configFile: await writeConfig(text) });
    expect(await call(pool, 'ringback.echo')).toEqual(failure(expect.stringMatching(message)));
    expect(await call(pool, 'ringback.echo')).toEqual(failure(expect.stringMatching(message)));
  });

  test('that is not there fails the run, and not the next one once it is', async () => {
    const path = await writeConfig(`throw new Error('not yet');`);
    const pool = openPool({ configFile: path });
    expect(await call(pool, 'ringback.echo')).toEqual(failure(expect.stringContaining('not yet')));
    await rm(path);
    expect(await call(pool, 'ringback.echo')).toEqual(failure(expect.stringContaining('cannot be read')));
    await writeFile(path, 'export default { jobs: [] };');
    expect(await valueOf(call(pool, 'ringback.echo', 1))).toBe(1);
  });

  test('that never ends loading is given up with the call', async () => {
    const path = await writeConfig(`
      import { writeFileSync } from 'node:fs';
      writeFileSync(import.meta.filename + '.begun', '');
      await new Promise(() => {});`);
    const abort = new AbortController();
    const loading = call(openPool({ configFile: path, graceMs: 1 }), 'ringback.echo', null, abort);
    await eventually(() => access(`${path}.begun`));
    abort.abort(new DOMException('too long', 'TimeoutError'));
    expect(await loading).toEqual(failure(expect.stringContaining('did not stop within 1 ms when told to (too long)')));
  });
});

describe('a file made in a thread', () => {
  test('of 20 MB is read piece by piece, no faster than its reader takes it', async () => {
    const cells = sharedCells();
    const outcome = await call(openPool(), 'file.pieces', { cells, pieces: 320 });
    expect(outcome).toMatchObject({ kind: 'file', contentType: 'application/pdf' });
    let [read, mostAhead] = [0, 0];
    for await (const piece of await bodyOf(Promise.resolve(outcome))) {
      expect(piece).toHaveLength(64 * 1024);
      expect(piece[0]).toBe(read % 256);
      read += 1;
      // A slow reader: the thread has time for many more.
      for (let turns = 0; turns < 20; turns += 1) await nextTurn();
      mostAhead = Math.max(mostAhead, Atomics.load(cells, 0) - read);
    }
    expect(read).toBe(320);
    expect(mostAhead).toBeLessThanOrEqual(4);
    expect(Atomics.load(cells, 1)).toBe(1);
  });

  test('from one large array comes in chunks that fit in memory', async () => {
    const body = await bodyOf(call(openPool(), 'file.bytes', 20_000_000));
    let length = 0;
    for await (const chunk of body) {
      expect(chunk.length).toBeLessThanOrEqual(256 * 1024);
      expect(chunk[0]).toBe((length + 10) % 251);
      length += chunk.length;
    }
    expect(length).toBe(20_000_000);
  });

  test.each([
    ['nothing', 0],
    ['one byte', 1],
    ['a chunk and one byte', 256 * 1024 + 1],
  ])('may be of %s', async (_size, bytes) => {
    let length = 0;
    for await (const chunk of await bodyOf(call(openPool(), 'file.bytes', bytes))) length += chunk.length;
    expect(length).toBe(bytes);
  });

  test('keeps its thread until it has been read', async () => {
    const cells = sharedCells();
    const pool = openPool();
    const body = await bodyOf(call(pool, 'file.pieces', { cells, pieces: 20 }));
    const next = call(pool, 'call.where');
    for await (const piece of body) void piece;
    expect(await valueOf(next)).toMatchObject({ calls: 1 });
  });

  test.each([
    ['by return before the first piece', (body: AsyncIterable<Uint8Array>) => body[Symbol.asyncIterator]().return?.()],
    [
      'by leaving the loop',
      async (body: AsyncIterable<Uint8Array>) => {
        for await (const piece of body) if (piece.length > 0) break;
      },
    ],
  ])('is closed when it is abandoned %s, and its thread is free', async (_how, abandon) => {
    const cells = sharedCells();
    const pool = openPool({ graceMs: LONG_MS });
    await call(pool, 'call.where');
    await abandon(await bodyOf(call(pool, 'file.pieces', { cells, pieces: 1000 })));
    expect(await valueOf(call(pool, 'call.where'))).toMatchObject({ calls: 2 });
    expect(Atomics.load(cells, 1)).toBe(1);
    expect(Atomics.load(cells, 0)).toBeLessThan(6);
  });

  test('that cannot be closed is ended with its thread', async () => {
    const pool = openPool({ graceMs: 1 });
    for await (const piece of await bodyOf(call(pool, 'file.stuck', sharedCells()))) if (piece.length > 0) break;
    expect(await valueOf(call(pool, 'call.where'))).toMatchObject({ calls: 1 });
  });

  test('is closed when the signal aborts, which its reader is told', async () => {
    const cells = sharedCells();
    const abort = new AbortController();
    const pool = openPool({ graceMs: LONG_MS });
    const body = await bodyOf(call(pool, 'file.pieces', { cells, pieces: 1000 }, abort));
    const reason = new DOMException('The lease was lost.', 'AbortError');
    const read = (async () => {
      for await (const piece of body) if (piece.length > 0) abort.abort(reason);
    })();
    await expect(read).rejects.toBe(reason);
    expect(await valueOf(call(pool, 'call.echo', 1))).toBe(1);
    expect(Atomics.load(cells, 1)).toBe(1);
  });

  test('that comes after the signal has aborted is not read', async () => {
    const cells = sharedCells();
    const abort = new AbortController();
    const pool = openPool({ graceMs: LONG_MS });
    const late = call(pool, 'file.after-abort', cells, abort);
    await reaches(cells, 0, 1);
    abort.abort(new DOMException('The job was canceled.', 'AbortError'));
    expect(await late).toEqual(failure(expect.stringContaining('The job was canceled.')));
    expect(await valueOf(call(pool, 'call.echo', 1))).toBe(1);
    expect(Atomics.load(cells, 1)).toBe(1);
  });

  test.each([
    ['an Error', 'error', Error, failure('TypeError: no such column')],
    [
      'a NonRetryableError',
      'non_retryable',
      NonRetryableError,
      failure('NonRetryableError: the file is empty', { retryable: false }),
    ],
    [
      'a RetryAfterError',
      'retry_after',
      RetryAfterError,
      failure('RetryAfterError: the quota is used up', { retryAfterMs: 90_000 }),
    ],
    ['text', 'text', Error, failure('Error: The handler threw "just text", which is not an Error.')],
    ['an Error that cannot be cloned', 'trap', Error, failure(expect.any(String))],
    ['what cannot be looked at', 'proxy', Error, failure(expect.any(String))],
  ])('whose stream throws %s throws it at its reader', async (_thrown, input, kind, expected) => {
    const reported: Reported[] = [];
    const body = await bodyOf(call(openPool(), 'file.throw', input, { to: reported }));
    const error = await readToEnd(body).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(kind);
    expect(failureOf(error)).toMatchObject(expected);
    expect(reported).toEqual([['progress', 50, 'half']]);
  });

  test.each([
    ['whose thread ends in the middle', 'file.exit', failure('Error: The handler ended its thread, with exit code 4.')],
    ['that is no bytes', 'file.words', failure(expect.stringContaining('not string'), { retryable: false })],
  ])('%s fails its reader', async (_what, type, expected) => {
    const pool = openPool();
    const error = await readToEnd(await bodyOf(call(pool, type))).catch((thrown: unknown) => thrown);
    expect(failureOf(error)).toMatchObject(expected);
    expect(await valueOf(call(pool, 'call.echo', 1))).toBe(1);
  });

  test('of no content type fails', async () => {
    expect(await call(openPool(), 'file.mistyped')).toMatchObject({ error: { code: 'invalid_output' } });
  });

  async function readToEnd(body: AsyncIterable<Uint8Array>): Promise<void> {
    for await (const piece of body) void piece;
  }
});

describe('a pool that is closed', () => {
  test('tells handlers to stop, fails what waits and what comes later', async () => {
    const cells = sharedCells();
    const pool = openPool({ graceMs: LONG_MS });
    const listening = call(pool, 'stop.listen', cells);
    const waiting = call(pool, 'call.echo', 1);
    await reaches(cells, 0, 1);
    await Promise.all([pool.close(), pool.close()]);
    expect(await valueOf(listening)).toEqual({ name: 'AbortError', message: 'The worker is shutting down.' });
    expect(await waiting).toEqual(NOT_STARTED);
    expect(await call(pool, 'call.echo', 1)).toEqual(NOT_STARTED);
  });

  test('ends the threads of handlers that do not listen', async () => {
    const cells = sharedCells();
    const pool = openPool({ graceMs: 1 });
    const spun = call(pool, 'stop.spin', cells);
    await reaches(cells, 0, 1);
    await pool.close();
    expect(await spun).toEqual(failure(expect.stringContaining('The worker is shutting down.')));
  });

  test('does not wait for what cannot be ended', async () => {
    const child = await childFiles();
    const pool = openPool({ graceMs: 1 });
    const stuck = call(pool, 'stop.child', child);
    await eventually(() => access(child.begun));
    await pool.close();
    await expect(access(child.gone)).rejects.toThrow('ENOENT');
    expect(await stuck).toEqual(failure(expect.stringContaining('The worker is shutting down.')));
    await writeFile(child.go, '');
    await eventually(() => access(child.gone));
  });
});
