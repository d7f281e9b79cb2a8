import type { DeliveryStatus } from '#domain/delivery.ts';
import type { AccountId, DeliveryId, EndpointId, EventId, JobId } from '#domain/ids.ts';
import type { Connection, Database } from './database.ts';

export interface Requeued {
  readonly queued: number;
  /** The jobs whose deliveries are to be let go. */
  readonly following: readonly JobId[];
}

const stateInOrder = (sql: Connection) =>
  sql`CASE WHEN ordering = 'job' AND job_id IS NOT NULL THEN 'behind' ELSE 'ready' END`;

/**
 * Queues deliveries once more, whatever became of them, each with a fresh schedule or for one attempt: those that are not
 * queued, and no challenges, whose event is still kept, and whose endpoint is there and takes something. Attempts made before stay on record and
 * count on. What must keep the order of its job is `behind`: see `advanceJobs`.
 */
export async function requeueDeliveries(
  sql: Connection,
  accountId: AccountId,
  { ids, retry, now }: { ids: readonly DeliveryId[]; retry: boolean; now: Date },
): Promise<Requeued> {
  const queued = await sql<{ jobId: JobId | null }[]>`
    WITH known AS MATERIALIZED (
      SELECT delivery.account_id, delivery.id, event.created_at AS event_created_at, endpoint.ordering
      FROM unnest(${[...ids]}::text[]) AS given (id)
      CROSS JOIN LATERAL (
        SELECT * FROM ringback.deliveries AS delivery
        WHERE delivery.account_id = ${accountId} AND delivery.id = given.id LIMIT 1) AS delivery -- ONE_BY_ONE
      CROSS JOIN LATERAL (
        SELECT created_at FROM ringback.events AS event
        WHERE event.account_id = delivery.account_id AND event.id = delivery.event_id LIMIT 1) AS event
      CROSS JOIN LATERAL (
        SELECT ordering FROM ringback.endpoints AS endpoint
        WHERE endpoint.account_id = delivery.account_id AND endpoint.id = delivery.endpoint_id
          AND endpoint.deleted_at IS NULL AND endpoint.status <> 'disabled' LIMIT 1) AS endpoint
    ), delivery AS (
      UPDATE ringback.deliveries AS delivery SET
        status = 'pending',
        schedule_from = CASE WHEN ${retry} THEN attempt_count END,
        next_attempt_at = ${now},
        updated_at = ${now},
        finished_at = NULL
      FROM known
      WHERE delivery.account_id = known.account_id AND delivery.id = known.id AND delivery.status <> 'pending'
        AND delivery.event_type <> 'endpoint.challenge'
        AND known.id LIKE 'dlv\\_%' -- FEW_ROWS: see database.ts
      RETURNING delivery.*, known.event_created_at, known.ordering
    )
    INSERT INTO ringback.delivery_queue (
      account_id, delivery_id, endpoint_id, event_id, event_created_at, job_id, position, trigger, state, due_at)
    SELECT account_id, id, endpoint_id, event_id, event_created_at, job_id, position, 'manual', ${stateInOrder(sql)}, ${now}
    FROM delivery
    RETURNING job_id AS "jobId"`;
  return { queued: queued.count, following: queued.flatMap(({ jobId }) => jobId ?? []) };
}

export interface UnsentPage {
  readonly endpointId: EndpointId;
  readonly statuses: readonly DeliveryStatus[];
  readonly eventTypes: readonly string[] | null;
  readonly since: Date;
  readonly until: Date;
  readonly after: DeliveryId | '';
  readonly limit: number;
}

/**
 * The next deliveries of an endpoint in their order, with whether they are to be sent again: all are read, so that a page
 * costs what it holds, however few match. Served by `deliveries_of_endpoint`.
 */
export async function readUnsent(
  { sql }: Database,
  accountId: AccountId,
  { endpointId, statuses, eventTypes, since, until, after, limit }: UnsentPage,
): Promise<Array<{ readonly id: DeliveryId; readonly matches: boolean }>> {
  return sql<Array<{ id: DeliveryId; matches: boolean }>>`
    SELECT id, account_id = ${accountId} AND status = ANY (${[...statuses]}::text[]) AND created_at >= ${since}
      AND created_at < ${until} AND (${eventTypes === null ? null : [...eventTypes]}::text[] IS NULL
        OR event_type = ANY (${eventTypes === null ? null : [...eventTypes]}::text[])) AS matches
    FROM ringback.deliveries
    WHERE endpoint_id = ${endpointId} AND id > ${after}
    ORDER BY id LIMIT ${limit}`;
}

/** Ends what is held for an endpoint that is no more. Answers how many, of so many rows looked at. */
export async function discardHeld(
  sql: Connection,
  accountId: AccountId,
  { ids, now }: { ids: readonly DeliveryId[]; now: Date },
): Promise<number> {
  const discarded = await sql`
    UPDATE ringback.deliveries SET status = 'discarded', updated_at = ${now}, finished_at = ${now}
    WHERE account_id = ${accountId} AND id = ANY (${[...ids]}::text[]) AND status = 'held'`;
  return discarded.count;
}

export interface DeliveryCopy {
  readonly of: DeliveryId;
  readonly id: DeliveryId;
}

/**
 * Makes deliveries of the same events to another endpoint, and queues them in the order of the first: of events that are still
 * kept, and that the endpoint has no delivery of. Answers those it made. What must keep the order of its job is `behind`:
 * see `advanceJobs`.
 */
export async function copyDeliveries(
  sql: Connection,
  accountId: AccountId,
  { copies, to, retry, now }: { copies: readonly DeliveryCopy[]; to: EndpointId; retry: boolean; now: Date },
): Promise<{ readonly made: ReadonlySet<DeliveryId>; readonly following: readonly JobId[] }> {
  const eventTime = sql`
    SELECT created_at FROM ringback.events AS event
    WHERE event.account_id = delivery.account_id AND event.id = delivery.event_id LIMIT 1`;
  const made = await sql<{ id: DeliveryId; jobId: JobId | null }[]>`
    WITH delivery AS (
      INSERT INTO ringback.deliveries (
        account_id, id, event_id, event_type, job_id, endpoint_id, status, attempt_count, schedule_from, next_attempt_at,
        created_at, updated_at)
      SELECT delivery.account_id, copy.id, event_id, event_type, delivery.job_id, ${to}, 'pending', 0,
        CASE WHEN ${retry} THEN 0 END, ${now}, ${now}, ${now}
      FROM json_to_recordset(${JSON.stringify(copies)}::text::json) AS copy ("of" text, id text)
      CROSS JOIN LATERAL (
        SELECT * FROM ringback.deliveries AS delivery
        WHERE delivery.account_id = ${accountId} AND delivery.id = copy.of LIMIT 1) AS delivery -- ONE_BY_ONE
      CROSS JOIN LATERAL (${eventTime}) AS event
      ORDER BY delivery.position
      ON CONFLICT (event_id, endpoint_id, account_id) DO NOTHING
      RETURNING *
    )
    INSERT INTO ringback.delivery_queue (
      account_id, delivery_id, endpoint_id, event_id, event_created_at, job_id, position, trigger, state, due_at)
    SELECT delivery.account_id, delivery.id, delivery.endpoint_id, delivery.event_id, event.created_at, job_id, position,
      'manual', ${stateInOrder(sql)}, ${now}
    FROM delivery
    CROSS JOIN LATERAL (
      SELECT ordering FROM ringback.endpoints AS endpoint
      WHERE endpoint.account_id = delivery.account_id AND endpoint.id = delivery.endpoint_id LIMIT 1) AS endpoint
    CROSS JOIN LATERAL (${eventTime}) AS event
    RETURNING delivery_id AS id, job_id AS "jobId"`;
  return { made: new Set(made.map(({ id }) => id)), following: made.flatMap(({ jobId }) => jobId ?? []) };
}

/** The delivery that another endpoint has of the same event. */
export async function findCopy(
  { sql }: Database,
  accountId: AccountId,
  { of, to }: { of: DeliveryId; to: EndpointId },
): Promise<DeliveryId | undefined> {
  const [there] = await sql<{ id: DeliveryId }[]>`
    SELECT there.id FROM ringback.deliveries AS given
    JOIN ringback.deliveries AS there ON there.event_id = given.event_id AND there.endpoint_id = ${to}
      AND there.account_id = given.account_id
    WHERE given.account_id = ${accountId} AND given.id = ${of}`;
  return there?.id;
}

/** When an event was made; undefined once it is no longer kept. */
export async function findEventTime(
  { sql }: Database,
  accountId: AccountId,
  eventId: EventId,
): Promise<Date | undefined> {
  const [event] = await sql<{ createdAt: Date }[]>`
    SELECT created_at AS "createdAt" FROM ringback.events WHERE account_id = ${accountId} AND id = ${eventId} LIMIT 1`;
  return event?.createdAt;
}
