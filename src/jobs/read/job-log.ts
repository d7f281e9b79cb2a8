import type { AccountId, JobId } from '#domain/ids.ts';
import { type JobLogLevel, LOG_LEVELS } from '#domain/job.ts';
import type { Result } from '#domain/problem.ts';
import type { Database } from '#store/database.ts';
import { type LogRecord, readLogLines } from '#store/job-logs.ts';
import type { JobQueries } from './job-queries.ts';

export type { LogRecord };

export interface LogQuery {
  /** A position: only what comes after it. */
  readonly after: number;
  readonly limit: number;
  /** The least level. */
  readonly level: JobLogLevel;
}

/** Reads what handlers have said, from any position on. */
export class JobLogs {
  readonly #db: Database;
  readonly #jobs: JobQueries;

  constructor(db: Database, jobs: JobQueries) {
    this.#db = db;
    this.#jobs = jobs;
  }

  /** Lines in their order. Reading on from the position of the last one misses none and repeats none. */
  async read(accountId: AccountId, id: JobId, { after, limit, level }: LogQuery): Promise<Result<LogRecord[]>> {
    const job = await this.#jobs.find(accountId, id);
    if (!job.ok) return job;
    const levels = LOG_LEVELS.slice(LOG_LEVELS.indexOf(level));
    return { ok: true, value: await readLogLines(this.#db, job.value, { after, limit, levels }) };
  }
}
