import type { Logger } from '#log.ts';
import { LEASE_MS } from '#queue/leases.ts';
import type { Queues } from '#queue/queues.ts';
import type { Database } from '#store/database.ts';
import { createPartitions } from '#store/partitions.ts';

const RESCUE_EVERY_MS = 5_000;
const PARTITIONS_EVERY_MS = 3_600_000;

interface Task {
  readonly name: string;
  readonly everyMs: number;
  readonly run: () => Promise<void>;
}

export interface KeeperDeps {
  readonly db: Database;
  readonly queues: Queues;
  readonly log: Logger;
  readonly leaseMs?: number;
  /** Called with the name of a queue whose items were given back. */
  readonly announce: (queue: string) => void;
}

/** Maintenance. Any number of keepers may run: every task can be done twice at once without harm. */
export class Keeper {
  readonly #deps: KeeperDeps;
  readonly #tasks: readonly Task[];
  readonly #timers = new Map<Task, NodeJS.Timeout>();
  readonly #underWay = new Set<Promise<void>>();
  #stopped = false;
  /** No rescue before: whoever was cut off together with us must have had the time to renew its leases. */
  #rescueNotBefore = 0;

  constructor(deps: KeeperDeps) {
    this.#deps = deps;
    this.#tasks = [
      { name: 'rescue', everyMs: RESCUE_EVERY_MS, run: () => this.#rescue() },
      { name: 'partitions', everyMs: PARTITIONS_EVERY_MS, run: () => this.#createPartitions() },
    ];
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
    const running = task
      .run()
      .catch((error: unknown) => this.#deps.log.error({ err: error, task: task.name }, 'keeper'))
      .finally(() => {
        this.#underWay.delete(running);
        if (!this.#stopped)
          this.#timers.set(
            task,
            setTimeout(() => this.#run(task), task.everyMs),
          );
      });
    this.#underWay.add(running);
  }

  /** Gives back the items of dead workers, at most a lease and one interval after they died. */
  async #rescue(): Promise<void> {
    const { db, queues, log, leaseMs = LEASE_MS } = this.#deps;
    if (Date.now() < this.#rescueNotBefore) return;
    try {
      for (const queue of [queues.runs, queues.deliveries]) {
        const rescued = await queue.rescue(db.sql, leaseMs);
        if (rescued > 0) {
          log.warn({ queue: queue.name, items: rescued }, 'rescued items of workers that died');
          this.#deps.announce(queue.name);
        }
      }
    } catch (error) {
      this.#rescueNotBefore = Date.now() + leaseMs;
      throw error;
    }
  }

  async #createPartitions(): Promise<void> {
    for (const { name, failure } of await createPartitions(this.#deps.db, new Date())) {
      if (failure === null) this.#deps.log.info({ partition: name }, 'partition made');
      else
        this.#deps.log.error(
          { partition: name, failure },
          'partition could not be made; its rows stay in the default one',
        );
    }
  }
}
