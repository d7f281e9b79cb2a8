import type { Worker } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { messageOf } from '../run/handler.ts';
import type { ThreadSettings, ThreadTask } from './thread-messages.ts';

export interface ThreadOptions {
  readonly settings: ThreadSettings;
  /** JavaScript objects of one thread; buffers are not counted. */
  readonly maxOldSpaceMb: number;
  readonly idleTimeoutMs: number;
  /** Told of what a handler left behind and that failed when no call was under way. */
  readonly onError: (error: unknown) => void;
}

/** A thread, and what became of it. */
interface Life {
  readonly thread: Worker;
  readonly exited: Promise<void>;
  /** Why it ended, when it did so by itself. */
  fault: string | undefined;
  /** Ends the wait for an answer. */
  lose: (error: Error) => void;
}

/**
 * A thread that is started when it is needed, left idle for a while, and replaced after any failure. Each has a Piscina
 * of its own: in a shared one a queued task that was to start with a thread that ended, or never came up, waits for
 * ever, and an error that no task is waiting for cannot be told whose it is.
 */
export class ThreadSlot {
  readonly #options: ThreadOptions;
  #piscina: Piscina<ThreadTask, void> | undefined;
  #life: Life | undefined;

  constructor(options: ThreadOptions) {
    this.#options = options;
  }

  /**
   * Runs one task; resolves when the next may come, and never rejects.
   * @param onEnd called when the task is done, or the thread is lost, then with the reason
   */
  async use(task: ThreadTask, onEnd: (fault: string | null) => void): Promise<void> {
    this.#piscina ??= this.#create();
    let life: Life | undefined;
    try {
      const answer = this.#piscina.run(task, { transferList: [task.port] });
      life = this.#watch(this.#piscina.threads[0]!);
      const lost = Promise.withResolvers<never>();
      life.lose = lost.reject;
      await Promise.race([answer, lost.promise]);
      onEnd(null);
    } catch (error) {
      onEnd(life?.fault ?? `It could not be run in a thread. ${messageOf(error)}`);
      await this.close();
      // A thread that waits for a child process or native code ends after it. Until then its place is taken: the
      // number of threads is a promise about the machine.
      await life?.exited;
    }
  }

  /** Ends the thread, whatever it does. */
  async close(): Promise<void> {
    const piscina = this.#piscina;
    this.#piscina = undefined;
    await piscina?.destroy();
  }

  #create(): Piscina<ThreadTask, void> {
    const { settings, maxOldSpaceMb, idleTimeoutMs, onError } = this.#options;
    const piscina = new Piscina<ThreadTask, void>({
      filename: new URL('./thread-entry.ts', import.meta.url).href,
      name: 'runInThread',
      minThreads: 0,
      maxThreads: 1,
      idleTimeout: idleTimeoutMs,
      workerData: settings,
      resourceLimits: { maxOldGenerationSizeMb: maxOldSpaceMb },
      // An idle thread keeps its event loop: blocked in Atomics.wait, it would not see its database connections close.
      atomics: 'disabled',
      recordTiming: false,
      // No execArgv: a thread inherits the flags that it can use, and only inherited ones may hold others.
    });
    return piscina.on('error', onError);
  }

  #watch(thread: Worker): Life {
    if (this.#life?.thread === thread) return this.#life;
    const { promise: exited, resolve } = Promise.withResolvers<void>();
    const life: Life = { thread, exited, fault: undefined, lose: () => {} };
    thread.once('error', (error) => (life.fault ??= faultOf(error)));
    thread.once('exit', (code) => {
      life.fault ??= `The handler ended its thread, with exit code ${code}.`;
      life.lose(new Error(life.fault));
      resolve();
    });
    this.#life = life;
    return life;
  }
}

function faultOf(error: unknown): string {
  if ((error as NodeJS.ErrnoException | null)?.code === 'ERR_WORKER_OUT_OF_MEMORY') {
    return 'The handler needed more memory than its thread may have.';
  }
  return `An error that nothing caught ended the handler's thread. ${messageOf(error)}`;
}
