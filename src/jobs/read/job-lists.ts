import type { Clock } from '#domain/clock.ts';
import { openCursor, refuseCursor, sealCursor } from '#domain/cursor.ts';
import { type AccountId, type JobId, parseId } from '#domain/ids.ts';
import { isFinal } from '#domain/job.ts';
import type { Result } from '#domain/problem.ts';
import type { Database } from '#store/database.ts';
import { findJobsByMetadata, scanJobs, scanOpenJobs } from '#store/job-lists.ts';
import type { JobRecord } from '#store/jobs.ts';
import { type JobPage, matchOf, scopeOf } from './job-filter.ts';
import { openWalk, startWalk, walkOn, type WalkQuery } from './job-walk.ts';

export interface JobListQuery extends WalkQuery {
  /** Asks for the order of changes, from that time on, instead of newest first. */
  readonly updatedAfter: Date | undefined;
  readonly cursor: string | undefined;
}

/** Jobs that one request looks at. */
const LOOK = 2000;
/** Metadata that more jobs have, of all accounts, is looked for among the account's own, newest first. */
const MOST_BY_METADATA = 5000;
const SCAN_ONLY = 'scan';

interface ListPlace {
  readonly below: JobId;
  /** `jobs_by_metadata` has shown to be of no help with these filters. */
  readonly scanOnly: boolean;
}

/** Lists of jobs, newest first or in the order of their changes. A page costs the same however rare what it asks for. */
export class JobLists {
  readonly #db: Database;
  readonly #clock: Clock;

  constructor({ db, clock }: { db: Database; clock: Clock }) {
    this.#db = db;
    this.#clock = clock;
  }

  async page(accountId: AccountId, query: JobListQuery): Promise<Result<JobPage>> {
    const { cursor, filter, updatedAfter } = query;
    if (cursor === undefined) {
      if (updatedAfter === undefined) return this.#list(accountId, query, undefined);
      return walkOn(this.#db, accountId, query, await startWalk(this.#db, accountId, updatedAfter, this.#clock.now()));
    }
    const walking = openWalk(accountId, filter, cursor);
    if (walking !== undefined && (updatedAfter ?? walking.after).getTime() === walking.after.getTime())
      return walkOn(this.#db, accountId, query, walking);
    const place = updatedAfter === undefined ? openList(accountId, query, cursor) : undefined;
    if (place !== undefined) return this.#list(accountId, query, place);
    return refuseCursor('must be the next_cursor of an earlier page of this list, asked for with the same filters');
  }

  async #list(accountId: AccountId, query: JobListQuery, place: ListPlace | undefined): Promise<Result<JobPage>> {
    const { filter, limit } = query;
    const seal = (below: JobId, scanOnly: boolean) =>
      sealCursor(scopeOf('list', accountId, filter), scanOnly ? [below, SCAN_ONLY] : [below]);
    const match = { ...matchOf(filter), ...(place && { below: place.below }) };
    const scanOnly = place?.scanOnly === true;
    const scan = filter.statuses?.every((status) => !isFinal(status)) === true ? scanOpenJobs : scanJobs;
    const { jobs, stoppedAt } = await scan(this.#db, accountId, match, { limit, look: LOOK });
    if (jobs.length === limit) return page(jobs, seal(jobs.at(-1)!.id, scanOnly));
    if (stoppedAt === null) return page(jobs, null);
    if (scanOnly || Object.keys(filter.metadata).length === 0) return page(jobs, seal(stoppedAt, scanOnly));
    const rest = { limit: limit - jobs.length, most: MOST_BY_METADATA };
    const others = await findJobsByMetadata(this.#db, accountId, { ...match, below: stoppedAt }, rest);
    if (others === undefined) return page(jobs, seal(stoppedAt, true));
    return page([...jobs, ...others], others.length === rest.limit ? seal(others.at(-1)!.id, false) : null);
  }
}

function page(items: readonly JobRecord[], nextCursor: string | null): Result<JobPage> {
  return { ok: true, value: { items, nextCursor, hasMore: nextCursor !== null } };
}

function openList(accountId: AccountId, { filter }: JobListQuery, cursor: string): ListPlace | undefined {
  const [id = '', mode] = openCursor(scopeOf('list', accountId, filter), cursor) ?? [];
  const below = parseId('job', id);
  return below && { below, scanOnly: mode === SCAN_ONLY };
}
