import type { DeliveryStatus } from '#domain/delivery.ts';
import type { SubscribableEventType } from '#domain/endpoint-policy.ts';
import type { AccountId, DeliveryId, EndpointId, JobId } from '#domain/ids.ts';
import type { Connection, Database } from './database.ts';
import type { DeliveryRecord } from './delivery-reads.ts';

/** Which deliveries of an account. Null lets every one pass. */
export interface DeliveryMatch {
  readonly statuses: readonly DeliveryStatus[] | null;
  readonly eventTypes: readonly SubscribableEventType[] | null;
  readonly endpointId: EndpointId | null;
  readonly jobId: JobId | null;
  /** The lowest id that fits, and the one that all are below: ids sort by time. */
  readonly from: DeliveryId;
  readonly below: DeliveryId;
}

/** A delivery as lists show it. */
export type ListedDelivery = Omit<DeliveryRecord, 'position' | 'scheduleFrom'>;

export interface ScannedDeliveries {
  /** Newest first. */
  readonly deliveries: readonly ListedDelivery[];
  /** The delivery that was looked at last, when the page is not full and there may be more. */
  readonly stoppedAt: DeliveryId | null;
}

interface Scan {
  readonly limit: number;
  /** Deliveries to look at, at most. */
  readonly look: number;
}

/** Of statements that have their deliveries in `page`. */
const columns = (sql: Connection) => sql`
  page.account_id AS "accountId", page.id, page.event_id AS "eventId", page.event_type AS "eventType", page.job_id AS "jobId",
  page.endpoint_id AS "endpointId", page.status, page.attempt_count AS "attemptCount",
  page.next_attempt_at AS "nextAttemptAt", page.created_at AS "createdAt", page.updated_at AS "updatedAt",
  page.finished_at AS "finishedAt", endpoint.url`;

/** What of the deliveries that were looked at belongs into the page. */
const fits = (sql: Connection, { statuses, eventTypes, endpointId, jobId }: DeliveryMatch) => sql`
  (${statuses}::text[] IS NULL OR delivery.status = ANY (${statuses}::text[]))
  AND (${eventTypes}::text[] IS NULL OR delivery.event_type = ANY (${eventTypes}::text[]))
  AND (${endpointId}::text IS NULL OR delivery.endpoint_id = ${endpointId})
  AND (${jobId}::text IS NULL OR delivery.job_id = ${jobId})`;

type Fragment = ReturnType<Connection>;

/** What `page` holds; and, when it is not full, the delivery that was looked at last, by the query given. */
const pageUntil = (sql: Connection, limit: number, last: Fragment) => sql`
    SELECT stop.id AS "stoppedAt", ${columns(sql)}
    FROM (SELECT CASE WHEN (SELECT count(*) FROM page) < ${limit} THEN (${last}) END AS id) AS stop
    LEFT JOIN (page CROSS JOIN LATERAL (
      SELECT url FROM ringback.endpoints
      WHERE account_id = page.account_id AND id = page.endpoint_id LIMIT 1) AS endpoint) ON true -- ONE_BY_ONE
    ORDER BY page.id DESC`;

/**
 * Newest first, by `deliveries_pkey` backwards. Looks at `look` deliveries at most, however rare those that match. Both
 * subselects have one snapshot, so that the second finds what the first looked at last.
 */
export async function scanDeliveries(
  { sql }: Database,
  accountId: AccountId,
  match: DeliveryMatch,
  { limit, look }: Scan,
): Promise<ScannedDeliveries> {
  const { from, below } = match;
  const rows = await sql<ScanRow[]>`
    WITH page AS MATERIALIZED (
      SELECT delivery.* FROM (
        SELECT * FROM ringback.deliveries
        WHERE account_id = ${accountId} AND id < ${below} AND id >= ${from}
        ORDER BY id DESC LIMIT ${look}) AS delivery
      WHERE ${fits(sql, match)}
      ORDER BY id DESC LIMIT ${limit}
    )
    ${pageUntil(
      sql,
      limit,
      sql`
      SELECT id FROM ringback.deliveries
      WHERE account_id = ${accountId} AND id < ${below} AND id >= ${from}
      ORDER BY id DESC OFFSET ${look - 1} LIMIT 1`,
    )}`;
  return toScanned(rows);
}

/**
 * The same among those of one endpoint, by `deliveries_of_endpoint` backwards. That index knows no accounts: the endpoint must be
 * the account's own, or else how many pages there are would tell of another's.
 */
export async function scanDeliveriesOfEndpoint(
  { sql }: Database,
  accountId: AccountId,
  match: DeliveryMatch & { readonly endpointId: EndpointId },
  { limit, look }: Scan,
): Promise<ScannedDeliveries> {
  const { endpointId, from, below } = match;
  const rows = await sql<ScanRow[]>`
    WITH own AS MATERIALIZED (
      SELECT id FROM ringback.endpoints WHERE account_id = ${accountId} AND id = ${endpointId}
    ), page AS MATERIALIZED (
      SELECT delivery.* FROM (
        SELECT * FROM ringback.deliveries
        WHERE endpoint_id = (SELECT id FROM own) AND id < ${below} AND id >= ${from}
        ORDER BY id DESC LIMIT ${look}) AS delivery
      WHERE ${fits(sql, match)}
      ORDER BY id DESC LIMIT ${limit}
    )
    ${pageUntil(
      sql,
      limit,
      sql`
      SELECT id FROM ringback.deliveries
      WHERE endpoint_id = (SELECT id FROM own) AND id < ${below} AND id >= ${from}
      ORDER BY id DESC OFFSET ${look - 1} LIMIT 1`,
    )}`;
  return toScanned(rows);
}

/** The same among what is pending: that has a row in the queue, so that what is over need not be looked at. */
export async function scanPendingDeliveries(
  { sql }: Database,
  accountId: AccountId,
  match: DeliveryMatch,
  { limit, look }: Scan,
): Promise<ScannedDeliveries> {
  const { from, below } = match;
  const rows = await sql<ScanRow[]>`
    WITH page AS MATERIALIZED (
      SELECT delivery.* FROM (
        SELECT delivery_id FROM ringback.delivery_queue
        WHERE account_id = ${accountId} AND delivery_id < ${below} AND delivery_id >= ${from}
        ORDER BY delivery_id DESC LIMIT ${look}) AS item
      CROSS JOIN LATERAL (
        SELECT * FROM ringback.deliveries
        WHERE account_id = ${accountId} AND id = item.delivery_id LIMIT 1) AS delivery -- ONE_BY_ONE
      WHERE ${fits(sql, match)}
      ORDER BY item.delivery_id DESC LIMIT ${limit}
    )
    ${pageUntil(
      sql,
      limit,
      sql`
      SELECT delivery_id FROM ringback.delivery_queue
      WHERE account_id = ${accountId} AND delivery_id < ${below} AND delivery_id >= ${from}
      ORDER BY delivery_id DESC OFFSET ${look - 1} LIMIT 1`,
    )}`;
  return toScanned(rows);
}

type ScanRow = { stoppedAt: DeliveryId | null } & (ListedDelivery | { id: null });

function toScanned(rows: readonly ScanRow[]): ScannedDeliveries {
  const deliveries = rows.flatMap(({ stoppedAt: _stop, ...delivery }) => (delivery.id === null ? [] : [delivery]));
  return { deliveries, stoppedAt: rows[0]?.stoppedAt ?? null };
}

/**
 * Newest first, those of one job: `deliveries_of_job` finds them all. Undefined when those are more than `most`, as of a job that
 * told of its progress for days: the index has no order, and nothing else was looked at.
 */
export async function findDeliveriesOfJob(
  { sql }: Database,
  accountId: AccountId,
  match: DeliveryMatch & { readonly jobId: JobId },
  { limit, most }: { limit: number; most: number },
): Promise<readonly ListedDelivery[] | undefined> {
  const { jobId, from, below } = match;
  const rows = await sql<Array<{ found: number } & (ListedDelivery | { id: null })>>`
    WITH found AS MATERIALIZED (
      SELECT * FROM ringback.deliveries
      WHERE job_id = (SELECT id FROM ringback.jobs WHERE account_id = ${accountId} AND id = ${jobId})
      LIMIT ${most + 1}
    ), total AS MATERIALIZED (
      SELECT count(*)::int AS deliveries FROM found
    ), page AS MATERIALIZED (
      SELECT delivery.* FROM found AS delivery
      WHERE (SELECT deliveries FROM total) <= ${most} AND id < ${below} AND id >= ${from} AND ${fits(sql, match)}
      ORDER BY id DESC LIMIT ${limit}
    )
    SELECT total.deliveries AS found, ${columns(sql)}
    FROM total LEFT JOIN (page CROSS JOIN LATERAL (
      SELECT url FROM ringback.endpoints
      WHERE account_id = page.account_id AND id = page.endpoint_id LIMIT 1) AS endpoint) ON true -- ONE_BY_ONE
    ORDER BY page.id DESC`;
  if ((rows[0]?.found ?? 0) > most) return undefined;
  return rows.flatMap(({ found: _found, ...delivery }) => (delivery.id === null ? [] : [delivery]));
}
