import type { Clock } from '#domain/clock.ts';
import { refuseTarget, refuseUnknown } from '#domain/callback-target.ts';
import type { DeliveryStatus } from '#domain/delivery.ts';
import { typesOf } from '#domain/endpoint-policy.ts';
import { type AccountId, type DeliveryId, type EndpointId, idBound, type JobId, newId, timeOf } from '#domain/ids.ts';
import { type Refusal, type Result, refuse } from '#domain/problem.ts';
import { findTarget } from '#store/callback-policy.ts';
import type { Database } from '#store/database.ts';
import { type DeliveryRecord, findDelivery } from '#store/delivery-reads.ts';
import { readEndpoints, wasEndpoint } from '#store/endpoints.ts';
import {
  copyDeliveries,
  findCopy,
  findEventTime,
  readUnsent,
  type Requeued,
  requeueDeliveries,
} from '#store/redeliver.ts';
import type { SettleDeps } from './settle.ts';

/** What can be sent again in numbers; what was delivered too, when it is asked for by name. Discarded: to another endpoint. */
export const RECOVERABLE = ['held', 'exhausted', 'discarded'] as const satisfies DeliveryStatus[];

/** The type of the jobs that do that. */
export const RECOVERY_JOB = 'ringback.recover';

export interface Recovery {
  readonly endpointId: EndpointId;
  /** Another endpoint that is to get the events; null for the same. */
  readonly to: EndpointId | null;
  readonly since: Date;
  readonly until: Date;
  readonly statuses: readonly DeliveryStatus[];
  /** Types and families of them (`job.*`); null for all. */
  readonly eventTypes: readonly string[] | null;
}

const PAGE = 500;

interface RedeliveryDeps extends Pick<SettleDeps, 'clock' | 'announceDeliveries' | 'advanceJobs'> {
  readonly db: Database;
}

/** Sending again: one delivery, or all that failed since a time. */
export class Redelivery {
  readonly #db: Database;
  readonly #clock: Clock;
  readonly #announceDeliveries: () => void;
  readonly #advanceJobs: (jobIds: readonly JobId[]) => void;

  constructor({ db, clock, announceDeliveries, advanceJobs }: RedeliveryDeps) {
    this.#db = db;
    this.#clock = clock;
    this.#announceDeliveries = announceDeliveries;
    this.#advanceJobs = advanceJobs;
  }

  /** Queues a delivery once more, with a fresh schedule or for one attempt; or its event for another endpoint. */
  async redeliver(
    accountId: AccountId,
    id: DeliveryId,
    { retry, endpointId }: { retry: boolean; endpointId: EndpointId | undefined },
  ): Promise<Result<DeliveryRecord>> {
    const given = await findDelivery(this.#db, accountId, id);
    if (given === undefined) return refuse('delivery_not_found', `There is no delivery ${id}.`);
    if (given.eventType === 'endpoint.challenge')
      return refuse(
        'delivery_unrepeatable',
        'A challenge is sent once: POST /v1/endpoints/{id}/verify sends a new one.',
      );
    const to = endpointId ?? given.endpointId;
    const refusal = to === given.endpointId ? undefined : await this.#refusalOf(accountId, to);
    if (refusal !== undefined) return refusal;
    const usable = await this.#check(accountId, to);
    if (!usable.ok) return usable;
    const eventCreatedAt = await findEventTime(this.#db, accountId, given.eventId);
    if (eventCreatedAt === undefined)
      return refuse('delivery_not_found', `The event of the delivery ${id} is no longer kept.`);
    const queued = await this.#queue(accountId, id, { to: to === given.endpointId ? null : to, retry });
    if (!queued.ok) return queued;
    const target = queued.value;
    if (given.jobId !== null) this.#advanceJobs([given.jobId]);
    this.#announceDeliveries();
    return { ok: true, value: (await findDelivery(this.#db, accountId, target))! };
  }

  /** Answers the delivery that it queued: this one, or that of the same event to another endpoint. */
  async #queue(
    accountId: AccountId,
    id: DeliveryId,
    { to, retry }: { to: EndpointId | null; retry: boolean },
  ): Promise<Result<DeliveryId>> {
    const now = this.#clock.now();
    let target = id;
    if (to !== null) {
      const copy = { of: id, id: newId('dlv', now.getTime()) };
      const { made } = await copyDeliveries(this.#db.sql, accountId, { copies: [copy], to, retry, now });
      if (made.has(copy.id)) return { ok: true, value: copy.id };
      target = (await findCopy(this.#db, accountId, { of: id, to })) ?? id;
    }
    const { queued } = await requeueDeliveries(this.#db.sql, accountId, { ids: [target], retry, now });
    if (queued > 0) return { ok: true, value: target };
    return refuse('delivery_pending', `The delivery ${target} is queued already: it will be attempted by itself.`);
  }

  /** Whether that endpoint takes anything. */
  async #check(accountId: AccountId, id: EndpointId): Promise<Result<undefined>> {
    const [endpoint] = await readEndpoints(this.#db, accountId, { id, limit: 1 });
    if (endpoint === undefined) return refuseUnknown(id);
    if (endpoint.status !== 'disabled') return { ok: true, value: undefined };
    return refuse('endpoint_disabled', `The endpoint ${id} is disabled: enable it first.`);
  }

  /** Of an endpoint that would hear what it was not meant to: the policy of its account holds for it as for a job's. */
  async #refusalOf(accountId: AccountId, id: EndpointId): Promise<Refusal | undefined> {
    const { policy, endpoint } = await findTarget(this.#db, accountId, { id });
    return endpoint && refuseTarget(policy, endpoint, '/endpoint_id');
  }

  /** Before a recovery is accepted: whether it could do anything. */
  async checkRecovery(
    accountId: AccountId,
    { endpointId, to }: Pick<Recovery, 'endpointId' | 'to'>,
  ): Promise<Result<undefined>> {
    if (to === null) return this.#check(accountId, endpointId);
    // Also what was discarded with its endpoint may go to another one.
    if (!(await wasEndpoint(this.#db, accountId, endpointId))) return refuseUnknown(endpointId);
    return (await this.#refusalOf(accountId, to)) ?? this.#check(accountId, to);
  }

  /**
   * Queues all that matches once more, in the order in which it was made, each with a fresh schedule, for its own endpoint or
   * for another one. May be run again: what is queued by then, or what the other has, is left alone. Answers how many it queued.
   */
  async recover(
    accountId: AccountId,
    { endpointId, to, since, until, statuses, eventTypes }: Recovery,
    { signal, progress }: { signal: AbortSignal; progress: (percent: number, message: string) => void },
  ): Promise<number> {
    let queued = 0;
    const types = eventTypes && typesOf(eventTypes);
    // Ids begin with the time of their making.
    let after: DeliveryId = idBound('dlv', since.getTime() - 1);
    for (;;) {
      signal.throwIfAborted();
      const wanted = { endpointId, statuses, eventTypes: types, since, until, after, limit: PAGE };
      const page = await readUnsent(this.#db, accountId, wanted);
      const ids = page.filter(({ matches }) => matches).map(({ id }) => id);
      if (ids.length > 0) queued += await this.#queueMany(accountId, ids, to);
      const last = page.at(-1);
      if (last === undefined || page.length < PAGE || timeOf(last.id) >= until.getTime()) return queued;
      after = last.id;
      const share = (timeOf(last.id) - since.getTime()) / Math.max(1, until.getTime() - since.getTime());
      progress(Math.round(100 * share), `${queued} queued`);
    }
  }

  async #queueMany(accountId: AccountId, ids: readonly DeliveryId[], to: EndpointId | null): Promise<number> {
    const now = this.#clock.now();
    const { queued, following } =
      to === null
        ? await requeueDeliveries(this.#db.sql, accountId, { ids, retry: true, now })
        : await this.#copy(accountId, ids, to, now);
    this.#advanceJobs(following);
    this.#announceDeliveries();
    return queued;
  }

  async #copy(accountId: AccountId, ids: readonly DeliveryId[], to: EndpointId, now: Date): Promise<Requeued> {
    const copies = ids.map((of) => ({ of, id: newId('dlv', now.getTime()) }));
    const { made, following } = await copyDeliveries(this.#db.sql, accountId, { copies, to, retry: true, now });
    return { queued: made.size, following };
  }
}
