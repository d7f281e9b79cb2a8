import type { Logger } from '#log.ts';

/** Something to be done again and again, by any number of keepers: twice at once does no harm. */
export interface Task {
  readonly name: string;
  readonly everyMs: number;
  /** How long to leave it after a failure; `everyMs` when left out. */
  readonly pauseAfterFailureMs?: number;
  readonly run: () => Promise<void>;
}

/** Maintenance. */
export class Keeper {
  readonly #tasks: readonly Task[];
  readonly #log: Logger;
  readonly #timers = new Map<Task, NodeJS.Timeout>();
  readonly #underWay = new Set<Promise<void>>();
  #stopped = false;

  constructor({ tasks, log }: { tasks: readonly Task[]; log: Logger }) {
    this.#tasks = tasks;
    this.#log = log;
  }

  start(): void {
    for (const task of this.#tasks) this.#run(task);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const timer of this.#timers.values()) clearTimeout(timer);
    await Promise.all(this.#underWay);
  }

  #run(task: Task): void {
    const running = this.#runOnce(task).then((pauseMs) => {
      this.#underWay.delete(running);
      if (!this.#stopped)
        this.#timers.set(
          task,
          setTimeout(() => this.#run(task), pauseMs),
        );
    });
    this.#underWay.add(running);
  }

  async #runOnce(task: Task): Promise<number> {
    try {
      await task.run();
      return task.everyMs;
    } catch (error) {
      this.#log.error({ err: error, task: task.name }, 'keeper');
      return task.pauseAfterFailureMs ?? task.everyMs;
    }
  }
}
