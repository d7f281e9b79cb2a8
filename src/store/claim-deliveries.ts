import type { ATTEMPT_TRIGGERS } from '#domain/attempt.ts';
import type { Health } from '#domain/circuit.ts';
import type { DeliveryOrder, SubscribableEventType } from '#domain/endpoint-policy.ts';
import {
  type AccountId,
  type AttemptId,
  type DeliveryId,
  type EndpointId,
  type EventId,
  type JobId,
  newId,
  type SecretId,
  type WorkerId,
} from '#domain/ids.ts';
import type { SignatureScheme } from '#domain/signature.ts';
import type { Connection } from './database.ts';
import { type EndpointRef, healthJson, withDates } from './endpoint-health.ts';
import { signingSecrets } from './endpoint-secrets.ts';
import { type SealedTls, tlsJson } from './endpoint-tls.ts';

export interface DeliveryClaim {
  /** Attempts at most: the places that this worker has free. */
  readonly limit: number;
  readonly workerId: WorkerId;
  readonly leaseMs: number;
  /** Lanes are looked at after this one, and around: `nextLane` of the claim before, or `FIRST_LANE`. */
  readonly afterLane: Lane;
  readonly now: Date;
  /** Attempts at once to an endpoint whose row says nothing, in all processes together. */
  readonly endpointLimit: number;
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
  readonly eventType: SubscribableEventType;
  /** Null for what is no job's event. */
  readonly jobId: JobId | null;
  readonly endpointId: EndpointId;
  /** Of the attempt that is to be made: the fence. */
  readonly attemptId: AttemptId;
  /** Attempts recorded so far; and when its schedule began, null for once and no more. */
  readonly attemptCount: number;
  readonly scheduleFrom: number | null;
  readonly trigger: (typeof ATTEMPT_TRIGGERS)[number];
  readonly body: Uint8Array;
}

/** Where a lane's deliveries go and how, as the endpoint's row has it now. */
export interface SealedDestination {
  readonly accountId: AccountId;
  readonly endpointId: EndpointId;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly timeoutMs: number | null;
  readonly retrySchedule: readonly number[] | null;
  readonly ordering: DeliveryOrder;
  /** Null for an endpoint without TLS settings. */
  readonly tls: SealedTls | null;
  readonly health: Health;
  /** Attempts that it could have when they were claimed, with what was under way left out. */
  readonly room: number;
  /** The sealed secrets that sign now, newest first; the ciphertext in base64. */
  readonly secrets: ReadonlyArray<{ id: SecretId; scheme: SignatureScheme; keyId: string; ciphertext: string }>;
}

export interface ClaimedDeliveries {
  readonly deliveries: readonly ClaimedDelivery[];
  /** Each endpoint once, however many deliveries go there; read with every claim, so that no cache can be stale. */
  readonly destinations: readonly SealedDestination[];
  /** True when more may be due that could be sent now. */
  readonly more: boolean;
  /** Endpoints that take nothing any more, though something is due to them. */
  readonly closed: readonly EndpointRef[];
  /** Endpoints that were passed over, for they have as much under way here as is left for others. */
  readonly crowded: readonly CrowdedLane[];
  readonly nextLane: Lane;
}

export interface CrowdedLane {
  readonly endpointId: EndpointId;
  /** Attempts of this worker. */
  readonly underWay: number;
}

/** Endpoints that one claim looks at. Claims go round. */
const MAX_LANES = 64;
/** Two digits of base 32 number the attempts of one claim. */
const MAX_ATTEMPTS = 1000;
/** What claims of other processes may be ahead by, in seconds. */
const SKEW_S = 10;
const BASE_32 = '0123456789abcdefghjkmnpqrstvwxyz';

/**
 * Takes deliveries that are due, with all that is needed to send them, in one statement.
 *
 * Fair by endpoint, as claims of runs are by account: an endpoint with few attempts under way comes before one with many,
 * and what there is to take is shared among those that wait and may have more; one endpoint leaves half of a courier's places to
 * others. `delivery_queue_ready` serves it: one probe for each endpoint with something due (never more than MAX_LANES), then the
 * front of each lane. SKIP LOCKED leaves to another claim what it is taking.
 *
 * Limits are counted from the leased rows. Where a limit must hold to the letter (an endpoint's own, order, a circuit that is being
 * tried), claims of that endpoint go one after the other: each moves `endpoint_lanes.claims` on, and one that began before
 * another's end finds it moved. `endpointLimit` alone may be exceeded for a moment by processes that claim at once.
 */
export async function claimDeliveries(sql: Connection, claim: DeliveryClaim): Promise<ClaimedDeliveries> {
  const { workerId, leaseMs, afterLane: after, now, endpointLimit } = claim;
  const limit = Math.min(claim.limit, MAX_ATTEMPTS);
  // The ids of one claim share their time and most of their random bits; the last two digits count (RFC 9562, 6.2).
  const ids = newId('att', now.getTime()).slice('att_'.length, -2);
  // What is further ahead than can have been paid was written by a clock that was ahead: it must not keep the endpoint waiting.
  const paidUntil = sql`greatest(${now}::timestamptz, CASE WHEN lane.paid_until
    < ${now}::timestamptz + (greatest(1, 1 / rate_per_second) + ${SKEW_S}) * interval '1 s' THEN lane.paid_until END)`;
  const secrets = signingSecrets(sql, sql`leased.account_id`, sql`leased.endpoint_id`, now);
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
      SELECT account_id, endpoint_id, count(*)::int AS attempts,
        (count(*) FILTER (WHERE worker_id = ${workerId}))::int AS attempts_here
      FROM ringback.delivery_queue
      WHERE state = 'leased' GROUP BY account_id, endpoint_id
    ), candidate AS MATERIALIZED (
      SELECT walk.account_id, walk.endpoint_id, walk.number, coalesce(under_way.attempts, 0) AS attempts,
        coalesce(under_way.attempts_here, 0) AS attempts_here, lane.claims,
        ${healthJson(sql)} AS health,
        json_build_object('url', url, 'headers', headers, 'timeoutMs', timeout_ms, 'retrySchedule', retry_schedule,
          'ordering', ordering, 'tls', ${tlsJson(sql)}) AS endpoint, endpoint.rate_per_second,
        endpoint.deleted_at IS NOT NULL OR endpoint.status = 'disabled' AS is_closed,
        endpoint.ordering = 'endpoint' OR num_nonnulls(endpoint.concurrency, endpoint.rate_per_second, health.allowance) > 0
          AS is_strict,
        CASE WHEN endpoint.status <> 'enabled' OR endpoint.deleted_at IS NOT NULL OR health.resume_at > ${now}
          OR lane.blocked_until > ${now} THEN 0
        ELSE least(
          -- No more here than are left for others: however many it may have, one that hangs does not stop a courier.
          (${limit}::int + 1 - coalesce(under_way.attempts_here, 0)) / 2,
          -- At its rate, a second's worth at once, or one.
          CASE WHEN endpoint.rate_per_second IS NOT NULL THEN floor(endpoint.rate_per_second * extract(epoch FROM
            greatest(1, 1 / endpoint.rate_per_second) * interval '1 s' + ${now}::timestamptz - ${paidUntil}) + 1e-6)::int END,
          CASE WHEN endpoint.ordering = 'endpoint' THEN 1
            ELSE least(coalesce(endpoint.concurrency, ${endpointLimit}::int), health.allowance) END
            - coalesce(under_way.attempts, 0)) END AS room
      FROM walk
      CROSS JOIN LATERAL (SELECT * FROM ringback.endpoints AS endpoint
        WHERE endpoint.account_id = walk.account_id AND endpoint.id = walk.endpoint_id LIMIT 1) AS endpoint -- ONE_BY_ONE
      CROSS JOIN LATERAL (SELECT * FROM ringback.endpoint_health AS health
        WHERE health.account_id = walk.account_id AND health.endpoint_id = walk.endpoint_id LIMIT 1) AS health
      CROSS JOIN LATERAL (SELECT * FROM ringback.endpoint_lanes AS lane
        WHERE lane.account_id = walk.account_id AND lane.endpoint_id = walk.endpoint_id LIMIT 1) AS lane
      LEFT JOIN under_way ON under_way.account_id = walk.account_id AND under_way.endpoint_id = walk.endpoint_id
      WHERE number > 0
    ), gate AS MATERIALIZED (
      SELECT lane.account_id, lane.endpoint_id FROM candidate
      JOIN ringback.endpoint_lanes AS lane
        ON lane.account_id = candidate.account_id AND lane.endpoint_id = candidate.endpoint_id
      WHERE is_strict AND room > 0 AND lane.claims = candidate.claims
      FOR UPDATE OF lane SKIP LOCKED
    ), share AS (
      SELECT account_id, endpoint_id, number AS lane, room,
        least(${limit}::int / lanes + (rank <= ${limit}::int % lanes)::int, room) AS places
      FROM (
        SELECT candidate.*, count(*) OVER ()::int AS lanes, row_number() OVER (ORDER BY attempts, number) AS rank
        FROM candidate
        WHERE room > 0 AND (NOT is_strict OR EXISTS (
          SELECT FROM gate WHERE gate.account_id = candidate.account_id AND gate.endpoint_id = candidate.endpoint_id))
      ) AS ranked
    ), picked AS MATERIALIZED (
      SELECT item.account_id, item.delivery_id, share.endpoint_id, share.lane, share.room, (row_number() OVER ())::int AS number,
        row_number() OVER (PARTITION BY share.lane) = 1 AS first_of_lane
      FROM share CROSS JOIN LATERAL (
        SELECT account_id, delivery_id FROM ringback.delivery_queue AS item
        WHERE state = 'ready' AND item.account_id = share.account_id AND item.endpoint_id = share.endpoint_id
        ORDER BY position
        LIMIT share.places
        FOR UPDATE SKIP LOCKED) AS item
    ), passed AS (
      UPDATE ringback.endpoint_lanes AS lane SET
        claims = lane.claims + 1,
        paid_until = CASE WHEN rate_per_second IS NOT NULL
          THEN ${paidUntil} + taken / rate_per_second * interval '1 s' END
      FROM (SELECT account_id, endpoint_id, count(*) AS taken FROM picked GROUP BY account_id, endpoint_id) AS claimed
      JOIN candidate USING (account_id, endpoint_id)
      WHERE is_strict AND lane.account_id = claimed.account_id AND lane.endpoint_id = claimed.endpoint_id
    ), leased AS (
      UPDATE ringback.delivery_queue AS item SET
        state = 'leased',
        attempt_id = 'att_' || ${ids}::text || substr(${BASE_32}, number / 32 + 1, 1) || substr(${BASE_32}, number % 32 + 1, 1),
        worker_id = ${workerId},
        leased_at = ${now},
        lease_expires_at = greatest(now(), ${now}) + ${leaseMs} * interval '1 ms'
      FROM picked
      WHERE item.account_id = picked.account_id AND item.delivery_id = picked.delivery_id
      RETURNING item.account_id, item.delivery_id, item.endpoint_id, item.event_id, item.event_created_at, item.attempt_id,
        item.trigger, picked.lane, picked.room, picked.first_of_lane
    )
    SELECT
      leased.account_id AS "accountId", leased.delivery_id AS id, leased.event_id AS "eventId",
      delivery.event_type AS "eventType", delivery.job_id AS "jobId", leased.endpoint_id AS "endpointId",
      leased.attempt_id AS "attemptId", leased.trigger, delivery.attempt_count AS "attemptCount",
      delivery.schedule_from AS "scheduleFrom", event.body, leased.lane, leased.room,
      CASE WHEN first_of_lane THEN (SELECT endpoint FROM candidate WHERE number = leased.lane) END AS endpoint,
      CASE WHEN first_of_lane THEN (SELECT health FROM candidate WHERE number = leased.lane) END AS health,
      CASE WHEN first_of_lane THEN ${secrets} END AS secrets,
      looked.*
    FROM (
      SELECT max(number) AS lanes, bool_or(wrapped) AS wrapped, max(ARRAY[account_id, endpoint_id]) FILTER (WHERE NOT wrapped) AS last,
        (SELECT json_agg(json_build_object('accountId', account_id, 'endpointId', endpoint_id)) FROM candidate WHERE is_closed) AS closed,
        (SELECT json_agg(json_build_object('endpointId', endpoint_id, 'underWay', attempts_here)) FROM candidate
          WHERE NOT is_closed AND attempts_here >= ${limit}::int) AS crowded
      FROM walk) AS looked
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
      readonly room: number;
      /** These three with the first of a lane only. */
      readonly endpoint: EndpointPart | null;
      readonly health: object | null;
      readonly secrets: SealedDestination['secrets'] | null;
    })
  | { readonly lane: null }
) & {
  readonly lanes: number;
  readonly wrapped: boolean;
  readonly last: readonly [accountId: string, endpointId: string];
  readonly closed: readonly EndpointRef[] | null;
  readonly crowded: readonly CrowdedLane[] | null;
};

type EndpointPart = Pick<SealedDestination, 'url' | 'headers' | 'timeoutMs' | 'retrySchedule' | 'ordering' | 'tls'>;

function answer(rows: readonly Row[], limit: number): ClaimedDeliveries {
  const [{ lanes, wrapped, last, closed, crowded }] = rows as [Row];
  const deliveries: ClaimedDelivery[] = [];
  const destinations: SealedDestination[] = [];
  let [latest, nextLane] = [0, FIRST_LANE];
  for (const row of rows) {
    if (row.lane === null) continue;
    deliveries.push(row);
    const { accountId, endpointId, endpoint, health, secrets, room } = row;
    if (endpoint !== null && health !== null && secrets !== null)
      destinations.push({ accountId, endpointId, room, ...endpoint, health: withDates(health), secrets });
    if (row.lane > latest) [latest, nextLane] = [row.lane, { accountId, endpointId }];
  }
  const seen = { deliveries, destinations, closed: closed ?? [], crowded: crowded ?? [] };
  if (deliveries.length > 0) return { ...seen, more: deliveries.length >= limit || lanes > 1, nextLane };
  // None of these may have anything now: go on behind them, once around.
  const goesOn = lanes === MAX_LANES && !wrapped;
  return { ...seen, more: goesOn, nextLane: goesOn ? { accountId: last[0], endpointId: last[1] } : FIRST_LANE };
}
