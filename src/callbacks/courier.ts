import { newId, timeOf, uuidOf, type WorkerId } from '#domain/ids.ts';
import type { SecretKey } from '#domain/secret-box.ts';
import type { Sender } from '#egress/send.ts';
import type { Logger } from '#log.ts';
import { ClaimLoop } from '#queue/claim-loop.ts';
import type { Item, NewItem } from '#queue/item-queue.ts';
import { Leases } from '#queue/leases.ts';
import type { DeliveryItem, Queues } from '#queue/queues.ts';
import { type Database, isUnavailable, type Transaction, transaction } from '#store/database.ts';
import {
  type DueDelivery,
  readDestinations,
  readDueDeliveries,
  recordInterrupted,
  settleDeliveries,
  type Settlement,
} from '#store/deliveries.ts';
import { FenceRefused, GroupCommit, MEASURED_GROUPS, persist } from '#store/group-commit.ts';
import { attempt } from './attempt.ts';
import { type Destination, openDestination } from './destination.ts';

/** A delivery that is ours to attempt. */
interface ClaimedDelivery {
  readonly item: Item<DeliveryItem>;
  readonly delivery: DueDelivery;
  readonly destination: Destination;
}

interface Settled {
  readonly item: Item<DeliveryItem>;
  readonly settlement: Settlement;
}

export interface CourierDeps {
  readonly db: Database;
  readonly queues: Queues;
  readonly sender: Sender;
  readonly keys: readonly SecretKey[];
  readonly workerId: WorkerId;
  readonly log: Logger;
  readonly concurrency: number;
  readonly pollMs: number;
  readonly schedule: readonly number[];
  readonly timeoutMs: number;
}

/** Claims deliveries that are due, sends them, and records every attempt. */
export class Courier {
  readonly loop: ClaimLoop<ClaimedDelivery>;
  readonly #deps: CourierDeps;
  readonly #leases: Leases<Item<DeliveryItem>>;
  readonly #settlements: GroupCommit<Settled>;
  readonly #shutdown = new AbortController();

  constructor(deps: CourierDeps) {
    this.#deps = deps;
    const onError = (error: unknown) => deps.log.error({ err: error }, 'courier');
    this.#leases = new Leases((items) => deps.queues.deliveries.renew(deps.db.sql, items), onError);
    this.#settlements = new GroupCommit<Settled>({
      ...MEASURED_GROUPS,
      commit: (settled) => this.#commit(settled),
    });
    this.loop = new ClaimLoop<ClaimedDelivery>({
      concurrency: deps.concurrency,
      pollMs: deps.pollMs,
      claim: (limit) => this.#claim(limit),
      work: (claimed) => this.#work(claimed),
      onError,
    });
  }

  start(): void {
    this.#leases.start();
    this.loop.start();
  }

  /**
   * Claims no more and waits for the answers under way, which each attempt's own deadline bounds; after `graceMs` what
   * could not be recorded is left to its lease, and the next courier records it as interrupted.
   */
  async stop(graceMs: number): Promise<void> {
    const timer = setTimeout(() => this.#shutdown.abort(), graceMs);
    const { promise: outOfPatience, resolve } = Promise.withResolvers<void>();
    this.#shutdown.signal.addEventListener('abort', () => resolve(), { once: true });
    await Promise.race([this.loop.stop(), outOfPatience]);
    clearTimeout(timer);
    this.#leases.stop();
  }

  async #claim(limit: number): Promise<{ claimed: ClaimedDelivery[]; more: boolean }> {
    const { db, queues, keys } = this.#deps;
    return transaction(db, async (tx) => {
      const items = await queues.deliveries.claim(tx, limit);
      if (items.length === 0) return { claimed: [], more: false };
      await this.#recordLost(tx, items);
      const [due, destinations] = await Promise.all([
        readDueDeliveries(tx, items.map(toKey)),
        readDestinations(tx, uniqueEndpoints(items), new Date()),
      ]);
      const deliveryById = new Map(due.map((delivery) => [delivery.id, delivery]));
      const destinationById = new Map(destinations.map((sealed) => [sealed.endpointId, openDestination(sealed, keys)]));
      const claimed: ClaimedDelivery[] = [];
      const over: Array<Item<DeliveryItem>> = [];
      for (const item of items) {
        const delivery = deliveryById.get(item.data.deliveryId);
        const destination = destinationById.get(item.data.endpointId);
        if (delivery === undefined || destination === undefined) over.push(item);
        else claimed.push({ item, delivery, destination });
      }
      await queues.deliveries.remove(tx, over);
      return { claimed, more: items.length >= limit };
    });
  }

  /** An item that was claimed before and is back lost its courier: that attempt goes on record as interrupted. */
  async #recordLost(tx: Transaction, items: ReadonlyArray<Item<DeliveryItem>>): Promise<void> {
    const now = new Date();
    const lost = items.filter(({ retryCount }) => retryCount > 0);
    if (lost.length === 0) return;
    const { workerId } = this.#deps;
    await recordInterrupted(
      tx,
      lost.map(({ data: { accountId, deliveryId } }) => ({
        accountId,
        deliveryId,
        attemptId: newId('att', now.getTime()),
        workerId,
        now,
      })),
    );
  }

  async #work({ item, delivery, destination }: ClaimedDelivery): Promise<void> {
    this.#leases.hold(item);
    try {
      const settlement = await attempt(delivery, destination, this.#deps);
      const settled = { item, settlement };
      const isOurs = await persist(() => this.#settlements.add(settled), isUnavailable, this.#shutdown.signal);
      const { nextAttemptAt } = settlement.verdict;
      if (isOurs && nextAttemptAt !== null) this.loop.wakeAt(nextAttemptAt.getTime());
      this.#log(settlement, isOurs);
    } finally {
      this.#leases.drop(item);
    }
  }

  #log({ delivery, result, verdict, number, attemptId }: Settlement, isOurs: boolean): void {
    this.#deps.log.info(
      {
        account_id: delivery.accountId,
        job_id: delivery.jobId,
        delivery_id: delivery.id,
        endpoint_id: delivery.endpointId,
        attempt_id: attemptId,
        number,
        outcome: result.outcome,
        ...(result.response && { status: result.response.status }),
        ...(result.errorCode && { error: result.errorCode }),
        delivery: isOurs ? verdict.status : 'refused',
        ...(verdict.nextAttemptAt && { next_attempt_at: verdict.nextAttemptAt }),
        duration_ms: result.timings.totalMs,
      },
      'attempt',
    );
  }

  /**
   * One transaction for many attempts: their rows, the deliveries' state, and the queue items of the next attempts. One
   * whose lease was lost answers false, and nothing of it is written.
   */
  async #commit(settled: readonly Settled[]): Promise<void> {
    const { db, queues } = this.#deps;
    await transaction(db, async (tx) => {
      const [deliveries, removed] = await Promise.all([
        settleDeliveries(
          tx,
          settled.map(({ settlement }) => settlement),
        ),
        queues.deliveries.remove(
          tx,
          settled.map(({ item }) => item),
        ),
        queues.deliveries.insert(tx, settled.flatMap(nextAttempt)),
      ]);
      if (deliveries.size !== settled.length || removed !== settled.length) throw new FenceRefused();
    });
  }
}

function toKey({ data }: Item<DeliveryItem>): DeliveryItem & { eventCreatedAt: Date } {
  return { ...data, eventCreatedAt: new Date(timeOf(data.eventId)) };
}

function uniqueEndpoints(items: ReadonlyArray<Item<DeliveryItem>>): DeliveryItem[] {
  return [...new Map(items.map(({ data }) => [data.endpointId, data])).values()];
}

function nextAttempt({ item, settlement }: Settled): Array<NewItem<DeliveryItem>> {
  const { nextAttemptAt } = settlement.verdict;
  if (nextAttemptAt === null) return [];
  const id = uuidOf(newId('dlv', settlement.result.finishedAt.getTime()));
  return [{ id, data: item.data, startAfter: nextAttemptAt }];
}
