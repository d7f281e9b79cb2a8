import { openCursor, refuseCursor, sealCursor } from '#domain/cursor.ts';
import type { DeliveryStatus } from '#domain/delivery.ts';
import { typesOf } from '#domain/endpoint-policy.ts';
import { type AccountId, type DeliveryId, type EndpointId, idBound, type JobId, parseId, timeOf } from '#domain/ids.ts';
import type { Result } from '#domain/problem.ts';
import type { Database } from '#store/database.ts';
import {
  type DeliveryMatch,
  findDeliveriesOfJob,
  type ListedDelivery,
  scanDeliveries,
  scanDeliveriesOfEndpoint,
  scanPendingDeliveries,
  type ScannedDeliveries,
} from '#store/delivery-lists.ts';

/** Which deliveries to list; what is undefined lets every delivery pass. */
export interface DeliveryFilter {
  readonly statuses: readonly DeliveryStatus[] | undefined;
  /** Types and families of them (`job.*`). */
  readonly eventTypes: readonly string[] | undefined;
  readonly endpointId: EndpointId | undefined;
  readonly jobId: JobId | undefined;
  /** Neither bound is itself included. */
  readonly createdAfter: Date | undefined;
  readonly createdBefore: Date | undefined;
}

export interface DeliveryListQuery {
  readonly filter: DeliveryFilter;
  readonly limit: number;
  readonly cursor: string | undefined;
}

export interface DeliveryPage {
  /** May be few, or none, though there is more: one request looks at so many deliveries and no more. */
  readonly items: readonly ListedDelivery[];
  /** Null at the end of the list. */
  readonly nextCursor: string | null;
  readonly hasMore: boolean;
}

/** Deliveries that one request looks at. */
const LOOK = 2000;
/** Of a job that has more, the account's are looked through, newest first. */
const MOST_OF_JOB = 2000;
/** What the clocks of the processes may differ by: a delivery's id may seem older than that of its job. */
const SLACK_MS = 60_000;
const SCAN_ONLY = 'scan';

interface ListPlace {
  readonly below?: DeliveryId;
  /** The job has shown to have too many deliveries to look at all of them. */
  readonly scanOnly: boolean;
}

/** Lists of deliveries, newest first. A page costs the same however rare what it asks for, and however long the history. */
export class DeliveryLists {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async page(accountId: AccountId, { filter, limit, cursor }: DeliveryListQuery): Promise<Result<DeliveryPage>> {
    const scope = scopeOf(accountId, filter);
    const place = cursor === undefined ? { scanOnly: false } : openPlace(scope, cursor);
    if (place === undefined)
      return refuseCursor('must be the next_cursor of an earlier page of this list, asked for with the same filters');
    const match = matchOf(filter, place);
    const seal = (below: DeliveryId, scanOnly: boolean) => sealCursor(scope, scanOnly ? [below, SCAN_ONLY] : [below]);
    const found = place.scanOnly ? undefined : await this.#ofJob(accountId, match, limit);
    if (found !== undefined) return page(found, found.length === limit ? seal(found.at(-1)!.id, false) : null);
    const scanOnly = filter.jobId !== undefined;
    const { deliveries, stoppedAt } = await this.#scan(accountId, match, limit);
    const last = deliveries.length === limit ? deliveries.at(-1)!.id : stoppedAt;
    return page(deliveries, last && seal(last, scanOnly));
  }

  /** Undefined when no job is asked for, or one with too many deliveries. */
  async #ofJob(accountId: AccountId, match: DeliveryMatch, limit: number) {
    const { jobId } = match;
    if (jobId === null) return undefined;
    return findDeliveriesOfJob(this.#db, accountId, { ...match, jobId }, { limit, most: MOST_OF_JOB });
  }

  #scan(accountId: AccountId, match: DeliveryMatch, limit: number): Promise<ScannedDeliveries> {
    const { endpointId, statuses, jobId } = match;
    const oldest = jobId === null ? match.from : idBound('dlv', timeOf(jobId) - SLACK_MS);
    const bounded = { ...match, from: oldest > match.from ? oldest : match.from };
    const scan = { limit, look: LOOK };
    if (statuses?.every((status) => status === 'pending') === true)
      return scanPendingDeliveries(this.#db, accountId, bounded, scan);
    if (endpointId !== null) return scanDeliveriesOfEndpoint(this.#db, accountId, { ...bounded, endpointId }, scan);
    return scanDeliveries(this.#db, accountId, bounded, scan);
  }
}

function page(items: readonly ListedDelivery[], nextCursor: string | null): Result<DeliveryPage> {
  return { ok: true, value: { items, nextCursor, hasMore: nextCursor !== null } };
}

function matchOf(filter: DeliveryFilter, { below }: ListPlace): DeliveryMatch {
  const { statuses, eventTypes, endpointId, jobId, createdAfter, createdBefore } = filter;
  return {
    statuses: statuses ?? null,
    eventTypes: eventTypes ? typesOf(eventTypes) : null,
    endpointId: endpointId ?? null,
    jobId: jobId ?? null,
    from: idBound('dlv', createdAfter === undefined ? 0 : createdAfter.getTime() + 1),
    below: below ?? idBound('dlv', createdBefore?.getTime() ?? Infinity),
  };
}

/** What a cursor is good for. Filters that mean the same are the same. */
function scopeOf(accountId: AccountId, filter: DeliveryFilter): readonly unknown[] {
  const { statuses, eventTypes, from, below, endpointId, jobId } = matchOf(filter, { scanOnly: false });
  return [
    'deliveries',
    accountId,
    statuses && [...new Set(statuses)].sort(),
    eventTypes,
    endpointId,
    jobId,
    from,
    below,
  ];
}

function openPlace(scope: readonly unknown[], cursor: string): ListPlace | undefined {
  const [id = '', mode] = openCursor(scope, cursor) ?? [];
  const below = parseId('dlv', id);
  return below && { below, scanOnly: mode === SCAN_ONLY };
}
