import type { Database } from '#store/database.ts';
import { addTypeRuns, type TypeRuns } from '#store/type-stats.ts';

const WRITE_EVERY_MS = 3000;

/** Counts what this process's runs took, by type, and adds it to what all processes know: a statement every few seconds. */
export class TypeStats {
  readonly #db: Database;
  readonly #onError: (error: unknown) => void;
  readonly #ran = new Map<string, { runs: number; totalMs: number }>();
  #timer: NodeJS.Timeout | undefined;

  constructor({ db, onError }: { db: Database; onError: (error: unknown) => void }) {
    this.#db = db;
    this.#onError = onError;
  }

  /** A run of that type has ended by itself, after so many milliseconds. */
  ran(type: string, ms: number): void {
    const sum = this.#ran.get(type) ?? { runs: 0, totalMs: 0 };
    sum.runs += 1;
    sum.totalMs += ms;
    this.#ran.set(type, sum);
    this.#timer ??= setTimeout(() => void this.#write(), WRITE_EVERY_MS);
  }

  /** Writes what is left; never rejects. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#ran.size > 0) await this.#write();
  }

  /** What cannot be written is forgotten: it is an estimate's raw material, not worth keeping through an outage. */
  async #write(): Promise<void> {
    this.#timer = undefined;
    const ran: TypeRuns[] = [...this.#ran].map(([type, sum]) => ({ type, ...sum }));
    this.#ran.clear();
    await addTypeRuns(this.#db, ran).catch(this.#onError);
  }
}
