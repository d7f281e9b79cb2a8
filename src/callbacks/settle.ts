import { isOurFault } from '#domain/attempt.ts';
import { type Health, healthSignOf, isHopeless, isQuiet, nextHealth, type Sign } from '#domain/circuit.ts';
import type { EndpointEventType } from '#domain/endpoint-event.ts';
import type { EndpointEventData } from '#domain/endpoint-event-data.ts';
import type { Clock } from '#domain/clock.ts';
import type { DisabledReason } from '#domain/endpoint-policy.ts';
import { type AccountId, type DeliveryId, type JobId, newId } from '#domain/ids.ts';
import type { Database, Transaction } from '#store/database.ts';
import { settleDeliveries, type Settled, type Settlement } from '#store/deliveries.ts';
import { disableEndpoint, insertEndpointEvents, type NewEndpointEvent } from '#store/endpoint-events.ts';
import { blockLanes, type EndpointHealth, type EndpointRef, lockHealth, writeHealth } from '#store/endpoint-health.ts';
import { retryAfterOf } from './attempt.ts';

/** An attempt that was made, and how its endpoint was when it was claimed. */
export interface Made {
  readonly settlement: Settlement;
  readonly health: Health;
}

export interface SettleDeps {
  readonly db: Database;
  readonly clock: Clock;
  /** Called after the commit of a delivery that somebody else is to get. */
  readonly announceDeliveries: () => void;
  /** Called after the commit of what more of those jobs may follow. */
  readonly advanceJobs: (jobIds: readonly JobId[]) => void;
  /** Called after the commit of events of these accounts. */
  readonly eventsWritten: (accountIds: readonly AccountId[]) => void;
}

/**
 * Writes attempts down: what becomes of each delivery, and what they say of their endpoints. While all goes well that is one
 * statement; health is locked, judged and written only where an attempt changes it. Answers the deliveries it settled.
 */
export async function settle(made: readonly Made[], deps: SettleDeps): Promise<ReadonlyMap<DeliveryId, Settled>> {
  const settlements = made.map(({ settlement }) => settlement);
  // Also what fails by our own fault is told when it is exhausted, and keeps its place.
  const telling = made.filter(
    ({ settlement, health }) => settlement.verdict.status !== 'delivered' || !isQuiet(health, signOf(settlement)),
  );
  const settled =
    telling.length === 0 ? await settleDeliveries(deps.db.sql, settlements) : await settleAndTell(made, telling, deps);
  deps.advanceJobs(
    settlements.flatMap(({ delivery: { id, jobId } }) => (settled.get(id)?.isFollowed ? (jobId ?? []) : [])),
  );
  return settled;
}

async function settleAndTell(
  made: readonly Made[],
  telling: readonly Made[],
  deps: SettleDeps,
): Promise<ReadonlyMap<DeliveryId, Settled>> {
  const settlements = made.map(({ settlement }) => settlement);
  let told: Told = { isDue: false, accountIds: [] };
  const settled = await deps.db.transaction(async (tx) => {
    const healths = await lockHealth(tx, endpointsOf(telling));
    const done = await settleDeliveries(tx, settlements);
    const ours = telling.map(({ settlement }) => settlement).filter(({ delivery }) => done.has(delivery.id));
    told = await judge(tx, healths, ours, deps.clock);
    return done;
  });
  if (told.isDue) deps.announceDeliveries();
  if (told.accountIds.length > 0) deps.eventsWritten(told.accountIds);
  return settled;
}

/** Of whom there are events, and whether any is to be delivered. */
interface Told {
  readonly isDue: boolean;
  readonly accountIds: readonly AccountId[];
}

/** Answers who is to be told of what came of it. */
async function judge(
  tx: Transaction,
  healths: readonly EndpointHealth[],
  settlements: readonly Settlement[],
  { now, random }: Clock,
): Promise<Told> {
  const events: NewEndpointEvent[] = settlements
    .filter(({ verdict, trigger }) => verdict.status === 'exhausted' && trigger !== 'probe')
    .map(exhausted);
  const changed: EndpointHealth[] = [];
  for (const health of healths) {
    const signs = settlements
      .filter(({ delivery }) => delivery.endpointId === health.endpointId)
      .map((settlement) => ({ ...signOf(settlement), random: random() }));
    const after = { ...health, ...signs.reduce<Health>(nextHealth, health) };
    changed.push(after);
    const reason = whyDisable(after, signs);
    const at = signs.at(-1)?.at ?? now();
    if (reason !== undefined && (await disableEndpoint(tx, health, reason, at)))
      events.push(endpointEvent('endpoint.disabled', health, at, { reason }));
    else if (health.circuit === 'open' && after.circuit === 'closed')
      events.push(endpointEvent('endpoint.recovered', health, at, {}));
  }
  await writeHealth(tx, changed);
  const blocked = settlements.flatMap(blockedLane);
  if (blocked.length > 0) await blockLanes(tx, blocked);
  const isDue = events.length > 0 && (await insertEndpointEvents(tx, events));
  return { isDue, accountIds: [...new Set(events.map(({ accountId }) => accountId))] };
}

function whyDisable(health: Health, signs: readonly Sign[]): DisabledReason | undefined {
  if (signs.some(({ sign }) => sign === 'gone')) return 'gone';
  return isHopeless(health) ? 'failing' : undefined;
}

/** Of an endpoint that keeps its order: nothing overtakes what has to wait. */
function blockedLane({ delivery, keepsPlace, verdict }: Settlement) {
  if (!keepsPlace || verdict.nextAttemptAt === null) return [];
  return [{ accountId: delivery.accountId, endpointId: delivery.endpointId, until: verdict.nextAttemptAt }];
}

function endpointsOf(made: readonly Made[]) {
  const byId = new Map(made.map(({ settlement: { delivery } }) => [delivery.endpointId, delivery.accountId]));
  return Array.from(byId, ([endpointId, accountId]) => ({ accountId, endpointId }));
}

function signOf({ result, settledAt }: Settlement): Omit<Sign, 'random'> {
  const response = 'response' in result ? result.response : null;
  return {
    sign: healthSignOf(result.outcome, response?.status ?? null, isOurFault(result.errorCode)),
    at: settledAt,
    retryAfterMs: 'response' in result ? retryAfterOf(result) : null,
  };
}

function exhausted({ delivery, number, result, settledAt }: Settlement): NewEndpointEvent {
  const { accountId, id, endpointId, eventId, jobId } = delivery;
  return endpointEvent('delivery.exhausted', { accountId, endpointId }, settledAt, {
    delivery: { id, event_id: eventId, job_id: jobId, attempts: number, last_error: result.errorCode },
  });
}

export function endpointEvent<T extends EndpointEventType>(
  type: T,
  ref: EndpointRef,
  createdAt: Date,
  data: EndpointEventData[T],
): NewEndpointEvent {
  return eventOf(type, ref, createdAt, renderEndpointEvent(type, ref, createdAt, data));
}

/** One whose body is rendered already. */
export function eventOf(
  type: EndpointEventType,
  { accountId, endpointId }: EndpointRef,
  createdAt: Date,
  body: string,
): NewEndpointEvent {
  return { accountId, id: newId('evt', createdAt.getTime()), type, body, createdAt, endpointId };
}

/** The callback's body. */
export function renderEndpointEvent(
  type: EndpointEventType,
  { endpointId }: Pick<EndpointRef, 'endpointId'>,
  createdAt: Date,
  data: object,
): string {
  return JSON.stringify({ type, timestamp: createdAt, data: { endpoint: { id: endpointId }, ...data } });
}
