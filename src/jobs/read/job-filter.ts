import { type AccountId, idBound } from '#domain/ids.ts';
import type { JobStatus } from '#domain/job.ts';
import type { JobMatch } from '#store/job-lists.ts';
import type { JobRecord } from '#store/jobs.ts';

/** Which jobs to list; what is undefined or empty lets every job pass. */
export interface JobFilter {
  readonly types: readonly string[] | undefined;
  readonly statuses: readonly JobStatus[] | undefined;
  /** Every one of these. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Neither bound is itself included. */
  readonly createdAfter: Date | undefined;
  readonly createdBefore: Date | undefined;
}

export interface JobPage {
  /** May be few, or none, though there is more: one request looks at so many jobs and no more. */
  readonly items: readonly JobRecord[];
  /** Null at the end of a list. A walk has no end. */
  readonly nextCursor: string | null;
  /** Whether to ask on at once. */
  readonly hasMore: boolean;
}

export function matchOf({ types, statuses, metadata, createdAfter, createdBefore }: JobFilter): JobMatch {
  return {
    types: types ?? null,
    statuses: statuses ?? null,
    metadata,
    from: idBound('job', createdAfter === undefined ? 0 : createdAfter.getTime() + 1),
    below: idBound('job', createdBefore?.getTime() ?? Infinity),
  };
}

/** What a cursor is good for. Filters that mean the same are the same. */
export function scopeOf(kind: 'list' | 'walk', accountId: AccountId, filter: JobFilter): readonly unknown[] {
  const { types, statuses, metadata, createdAfter, createdBefore } = filter;
  const sorted = (values: readonly string[] | undefined) => values && [...new Set(values)].sort();
  const entries = Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1));
  return [kind, accountId, sorted(types), sorted(statuses), entries, createdAfter?.getTime(), createdBefore?.getTime()];
}
