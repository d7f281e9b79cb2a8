import type { PgBoss } from 'pg-boss';
import { type Connection, onConnection } from './boss.ts';

/** What a later write must match: the item, and how often it had been claimed when we claimed it. */
export interface ItemRef {
  readonly id: string;
  readonly retryCount: number;
}

/** A claimed queue item. `retryCount` above 0 says that so many earlier claims were lost. */
export interface Item<Data> extends ItemRef {
  readonly data: Data;
}

export interface NewItem<Data> {
  /** A UUID; time-ordered ones keep the index in one place. */
  readonly id: string;
  readonly data: Data;
  /** Not to be claimed before. Left out: at once. */
  readonly startAfter?: Date | null;
}

/** One queue. Every method runs on the connection it is given, so that it commits or not with our own rows. */
export class ItemQueue<Data extends object> {
  readonly #boss: PgBoss;
  readonly name: string;

  constructor(boss: PgBoss, name: string) {
    this.#boss = boss;
    this.name = name;
  }

  async insert(sql: Connection, items: ReadonlyArray<NewItem<Data>>): Promise<void> {
    if (items.length === 0) return;
    const rows = items.map(({ id, data, startAfter }) => (startAfter ? { id, data, startAfter } : { id, data }));
    await this.#boss.insert(this.name, rows, { db: onConnection(sql) });
  }

  /** Takes up to `limit` items that are due, oldest first. */
  async claim(sql: Connection, limit: number): Promise<Array<Item<Data>>> {
    return this.#boss.fetch<Data>(this.name, { batchSize: limit, db: onConnection(sql) });
  }

  /**
   * Ends items: they are deleted, not marked complete, because our own tables are the record; so the queue holds live
   * items only and its cost does not grow with history. Fenced; answers how many were still ours.
   */
  async remove(sql: Connection, refs: readonly ItemRef[]): Promise<number> {
    if (refs.length === 0) return 0;
    return affected(await this.#boss.deleteJob(this.name, refs as ItemRef[], { db: onConnection(sql) }));
  }

  /** Renews leases; answers those that are somebody else's by now, or gone. */
  async renew<Ref extends ItemRef>(sql: Connection, refs: readonly Ref[]): Promise<Ref[]> {
    if (refs.length === 0 || (await this.#touch(sql, refs)) === refs.length) return [];
    // One by one, because a renewal of many only says how many there were.
    const lost: Ref[] = [];
    for (const ref of refs) if ((await this.#touch(sql, [ref])) === 0) lost.push(ref);
    return lost;
  }

  async #touch(sql: Connection, refs: readonly ItemRef[]): Promise<number> {
    return affected(await this.#boss.touch(this.name, refs as ItemRef[], { db: onConnection(sql) }));
  }

  /**
   * Gives back items whose lease ran out: their worker died, or cannot reach the database. The next claim counts one
   * more. Fenced, so that an item settled or touched meanwhile is left alone. Answers how many there were.
   */
  async rescue(sql: Connection, leaseMs: number): Promise<number> {
    const lapsed = await sql<ItemRef[]>`
      SELECT id, retry_count AS "retryCount" FROM pgboss.job
      WHERE name = ${this.name} AND state = 'active' AND heartbeat_on < now() - ${leaseMs} * interval '1 ms'
      LIMIT 1000`;
    if (lapsed.length === 0) return 0;
    return affected(
      await this.#boss.fail(this.name, [...lapsed], { message: 'lease ran out' }, { db: onConnection(sql) }),
    );
  }
}

/** pg-boss answers `{ jobs, requested, affected }` but declares an empty type; the queue's tests hold it to this. */
function affected(response: { affected?: number }): number {
  if (response.affected === undefined) throw new Error('pg-boss did not say how many items it changed');
  return response.affected;
}
