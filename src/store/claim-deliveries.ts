import {
  type AccountId,
  type AttemptId,
  newId,
  type DeliveryId,
  type EndpointId,
  type EventId,
  type JobId,
  type SecretId,
  type WorkerId,
} from '#domain/ids.ts';
import type { FinalJobEventType } from '#domain/job.ts';
import type { Connection } from './database.ts';

export interface DeliveryClaim {
  /** Attempts at most. */
  readonly limit: number;
  readonly workerId: WorkerId;
  readonly leaseMs: number;
  /** Lanes are looked at after this one, and around: `nextLane` of the claim before, or `FIRST_LANE`. */
  readonly afterLane: Lane;
  readonly now: Date;
}

/** What waits for one endpoint. */
export interface Lane {
  readonly accountId: string;
  readonly endpointId: string;
}

export const FIRST_LANE: Lane = { accountId: '', endpointId: '' };

/** A delivery that is ours to attempt, with the bytes to send. */
export interface ClaimedDelivery {
  readonly accountId: AccountId;
  readonly id: DeliveryId;
  readonly eventId: EventId;
  readonly eventType: FinalJobEventType;
  readonly jobId: JobId;
  readonly endpointId: EndpointId;
  /** Of the attempt that is to be made: the fence. */
  readonly attemptId: AttemptId;
  /** Attempts recorded so far. */
  readonly attemptCount: number;
  readonly body: Uint8Array;
}

/** Where a lane's deliveries go, and the sealed secrets that sign now, newest first. */
export interface SealedDestination {
  readonly accountId: AccountId;
  readonly endpointId: EndpointId;
  readonly url: string;
  /** The ciphertext in base64. */
  readonly secrets: ReadonlyArray<{ id: SecretId; keyId: string; ciphertext: string }>;
}

export interface ClaimedDeliveries {
  readonly deliveries: readonly ClaimedDelivery[];
  /** Each endpoint once, however many deliveries go there; read with every claim, so that no cache can be stale. */
  readonly destinations: readonly SealedDestination[];
  /** True when more may be due. */
  readonly more: boolean;
  readonly nextLane: Lane;
}

/** Endpoints that one claim looks at. Claims go round. */
const MAX_LANES = 64;
/** Two digits of base 32 number the attempts of one claim. */
const MAX_ATTEMPTS = 1000;
const BASE_32 = '0123456789abcdefghjkmnpqrstvwxyz';

/**
 * Takes deliveries that are due, with all that is needed to send them, in one statement.
 *
 * Fair by endpoint, as claims of runs are by account: an endpoint with few attempts under way comes before one with many,
 * and what there is to take is shared among those that wait. `delivery_queue_ready` serves it: one probe for each endpoint
 * with something due (never more than MAX_LANES), then the front of each lane. SKIP LOCKED leaves to another claim what
 * it is taking.
 */
export async function claimDeliveries(sql: Connection, claim: DeliveryClaim): Promise<ClaimedDeliveries> {
  const { workerId, leaseMs, afterLane: after, now } = claim;
  const limit = Math.min(claim.limit, MAX_ATTEMPTS);
  // The ids of one claim share their time and most of their random bits; the last two digits count (RFC 9562, 6.2).
  const ids = newId('att', now.getTime()).slice('att_'.length, -2);
  const rows = await sql<Row[]>`
    WITH RECURSIVE walk AS (
      SELECT ${after.accountId}::text COLLATE "C" AS account_id, ${after.endpointId}::text COLLATE "C" AS endpoint_id,
        0 AS number, false AS wrapped
      UNION ALL
      SELECT next.account_id, next.endpoint_id, walk.number + 1, next.wrapped
      FROM walk CROSS JOIN LATERAL (
        -- The next endpoint; after the last of them the first, up to where the walk began.
        (SELECT account_id, endpoint_id, walk.wrapped FROM ringback.delivery_queue
          WHERE state = 'ready' AND (account_id, endpoint_id) > (walk.account_id, walk.endpoint_id)
            AND (NOT walk.wrapped OR (account_id, endpoint_id) <= (${after.accountId}, ${after.endpointId}))
          ORDER BY account_id, endpoint_id LIMIT 1)
        UNION ALL
        (SELECT account_id, endpoint_id, true FROM ringback.delivery_queue
          WHERE state = 'ready' AND NOT walk.wrapped AND (account_id, endpoint_id) <= (${after.accountId}, ${after.endpointId})
          ORDER BY account_id, endpoint_id LIMIT 1)
        LIMIT 1) AS next
      WHERE walk.number < ${MAX_LANES}
    ), under_way AS MATERIALIZED (
      SELECT account_id, endpoint_id, count(*)::int AS attempts FROM ringback.delivery_queue
      WHERE state = 'leased' GROUP BY account_id, endpoint_id
    ), share AS (
      SELECT account_id, endpoint_id, number AS lane, ${limit}::int / lanes + (rank <= ${limit}::int % lanes)::int AS places
      FROM (
        SELECT walk.*, count(*) OVER ()::int AS lanes,
          row_number() OVER (ORDER BY coalesce(attempts, 0), number) AS rank
        FROM walk LEFT JOIN under_way USING (account_id, endpoint_id)
        WHERE number > 0) AS ranked
    ), picked AS MATERIALIZED (
      SELECT item.account_id, item.delivery_id, share.lane, (row_number() OVER ())::int AS number,
        row_number() OVER (PARTITION BY share.lane) = 1 AS first_of_lane
      FROM share CROSS JOIN LATERAL (
        SELECT account_id, delivery_id FROM ringback.delivery_queue AS item
        WHERE state = 'ready' AND item.account_id = share.account_id AND item.endpoint_id = share.endpoint_id
        ORDER BY due_at, delivery_id
        LIMIT share.places
        FOR UPDATE SKIP LOCKED) AS item
    ), leased AS (
      UPDATE ringback.delivery_queue AS item SET
        state = 'leased',
        attempt_id = 'att_' || ${ids}::text || substr(${BASE_32}, number / 32 + 1, 1) || substr(${BASE_32}, number % 32 + 1, 1),
        worker_id = ${workerId},
        leased_at = ${now},
        lease_expires_at = now() + ${leaseMs} * interval '1 ms'
      FROM picked
      WHERE item.account_id = picked.account_id AND item.delivery_id = picked.delivery_id
      RETURNING item.account_id, item.delivery_id, item.endpoint_id, item.event_id, item.event_created_at, item.attempt_id,
        picked.lane, picked.first_of_lane
    )
    SELECT
      leased.account_id AS "accountId", leased.delivery_id AS id, leased.event_id AS "eventId",
      delivery.event_type AS "eventType", delivery.job_id AS "jobId", leased.endpoint_id AS "endpointId",
      leased.attempt_id AS "attemptId", delivery.attempt_count AS "attemptCount", event.body, leased.lane,
      CASE WHEN first_of_lane THEN (
        SELECT json_build_object('url', endpoint.url, 'secrets', (
          SELECT coalesce(json_agg(json_build_object(
            'id', secret.id, 'keyId', secret.key_id, 'ciphertext', encode(secret.ciphertext, 'base64'))
            ORDER BY secret.id DESC), '[]')
          FROM ringback.endpoint_secrets AS secret
          WHERE secret.account_id = endpoint.account_id AND secret.endpoint_id = endpoint.id
            AND (secret.expires_at IS NULL OR secret.expires_at > ${now})))
        FROM ringback.endpoints AS endpoint
        WHERE endpoint.account_id = leased.account_id AND endpoint.id = leased.endpoint_id) END AS destination,
      looked.*
    FROM (SELECT max(number) AS lanes FROM walk) AS looked
    LEFT JOIN (leased
      CROSS JOIN LATERAL (
        SELECT * FROM ringback.deliveries AS delivery
        WHERE delivery.account_id = leased.account_id AND delivery.id = leased.delivery_id LIMIT 1) AS delivery -- ONE_BY_ONE
      CROSS JOIN LATERAL (
        SELECT body FROM ringback.events AS event
        WHERE event.account_id = leased.account_id AND event.id = leased.event_id
          AND event.created_at = leased.event_created_at LIMIT 1) AS event) ON true`;
  return answer(rows, limit);
}

/** A delivery, or nulls; and what the claim saw, the same in every row. */
type Row = (
  | (ClaimedDelivery & {
      readonly lane: number;
      readonly destination: Pick<SealedDestination, 'url' | 'secrets'> | null;
    })
  | { readonly lane: null }
) & { readonly lanes: number };

function answer(rows: readonly Row[], limit: number): ClaimedDeliveries {
  const deliveries: ClaimedDelivery[] = [];
  const destinations: SealedDestination[] = [];
  let [last, nextLane] = [0, FIRST_LANE];
  for (const row of rows) {
    if (row.lane === null) continue;
    deliveries.push(row);
    const { accountId, endpointId, destination } = row;
    if (destination !== null) destinations.push({ accountId, endpointId, ...destination });
    if (row.lane > last) [last, nextLane] = [row.lane, { accountId, endpointId }];
  }
  return { deliveries, destinations, more: deliveries.length >= limit || rows[0]!.lanes > 1, nextLane };
}
