import { type AccountId, type EndpointId, newId, type WorkerId } from '#domain/ids.ts';
import { type Result, refuse } from '#domain/problem.ts';
import type { SecretKey } from '#domain/secret-box.ts';
import type { Sender } from '#egress/send.ts';
import type { Database } from '#store/database.ts';
import { type AttemptRecord, listAttempts } from '#store/delivery-reads.ts';
import { insertPing } from '#store/pings.ts';
import { attempt } from './attempt.ts';
import { openDestination } from './destination.ts';
import { endpointEvent, settle, type SettleDeps } from './settle.ts';

export interface PingsDeps {
  readonly db: Database;
  readonly sender: Sender;
  readonly keys: readonly SecretKey[];
  readonly workerId: WorkerId;
  readonly timeoutMs: number;
  readonly announceDeliveries: () => void;
  readonly advanceJobs: SettleDeps['advanceJobs'];
  readonly eventsWritten: (accountIds: readonly AccountId[]) => void;
}

/** The lease of a ping outlasts its request; should this process die, a keeper records it as interrupted. */
const LEASE_SLACK_MS = 60_000;

/** Tries endpoints out. */
export class Pings {
  readonly #deps: PingsDeps;

  constructor(deps: PingsDeps) {
    this.#deps = deps;
  }

  /** Sends a signed test event now, whatever the state of the endpoint; on record as any delivery. Once, without retries. */
  async ping(accountId: AccountId, endpointId: EndpointId): Promise<Result<AttemptRecord>> {
    const { db, keys, workerId, timeoutMs } = this.#deps;
    const now = new Date();
    const event = endpointEvent('endpoint.ping', { accountId, endpointId }, now, {});
    const ids = { deliveryId: newId('dlv', now.getTime()), attemptId: newId('att', now.getTime()) };
    const leaseMs = timeoutMs + LEASE_SLACK_MS;
    const destination = await insertPing(db.sql, event, { ...ids, workerId, leaseMs });
    if (destination === undefined) return refuse('endpoint_not_found', `There is no endpoint ${endpointId}.`);
    const delivery = {
      accountId,
      id: ids.deliveryId,
      eventId: event.id,
      eventType: event.type,
      jobId: null,
      endpointId,
      attemptId: ids.attemptId,
      attemptCount: 0,
      scheduleFrom: null,
      trigger: 'probe' as const,
      body: Buffer.from(event.body),
    };
    const settlement = await attempt(delivery, openDestination(destination, keys), { ...this.#deps, schedule: [0] });
    this.#deps.eventsWritten([accountId]);
    await settle([{ settlement, health: destination.health }], this.#deps);
    const [made] = await listAttempts(db, accountId, ids.deliveryId);
    return { ok: true, value: made! };
  }
}
