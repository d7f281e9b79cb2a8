import type { Clock } from '#domain/clock.ts';
import type { AccountId, JobId, WorkerId } from '#domain/ids.ts';
import type { SecretKey } from '#domain/secret-box.ts';
import type { Sender } from '#egress/send.ts';
import type { Logger } from '#log.ts';
import { ClaimLoop } from '#queue/claim-loop.ts';
import { LEASE_MS, Leases } from '#queue/leases.ts';
import { type ClaimedDelivery, claimDeliveries, FIRST_LANE } from '#store/claim-deliveries.ts';
import type { Database } from '#store/database.ts';
import type { Settlement } from '#store/deliveries.ts';
import { type AttemptRef, renewAttempts } from '#store/delivery-queue.ts';
import { closeLane } from '#store/endpoint-events.ts';
import type { EndpointRef } from '#store/endpoint-health.ts';
import { GroupCommit, MEASURED_GROUPS } from '#store/group-commit.ts';
import { attempt } from './attempt.ts';
import { type Destination, openDestination } from './destination.ts';
import { Places } from './places.ts';
import { recordAttempt } from './record-attempt.ts';
import { type Made, settle } from './settle.ts';
import { splitReadable, UnreadableEndpoints } from './unreadable.ts';

export interface CourierDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly sender: Sender;
  readonly keys: readonly SecretKey[];
  readonly workerId: WorkerId;
  readonly log: Logger;
  readonly concurrency: number;
  readonly pollMs: number;
  readonly schedule: readonly number[];
  readonly timeoutMs: number;
  /** Attempts at once to an endpoint that says nothing else, in all processes together. */
  readonly endpointConcurrency: number;
  /** Called after the commit of a delivery that is due again at that time (Unix milliseconds). */
  readonly dueAt: (at: number) => void;
  readonly announceDeliveries: () => void;
  readonly advanceJobs: (jobIds: readonly JobId[]) => void;
  readonly eventsWritten: (accountIds: readonly AccountId[]) => void;
}

/** Deliveries of an endpoint that takes nothing any more, taken out of the queue with one claim. */
const CLOSED_AT_ONCE = 1000;

interface Claimed {
  readonly delivery: ClaimedDelivery;
  readonly destination: Destination;
}

/** Claims deliveries that are due, sends them, and records every attempt. */
export class Courier {
  readonly loop: ClaimLoop<Claimed>;
  readonly #deps: CourierDeps;
  readonly #leases: Leases<AttemptRef>;
  readonly #settlements: GroupCommit<Made>;
  readonly #shutdown = new AbortController();
  #nextLane = FIRST_LANE;
  readonly #places = new Places();
  readonly #persist = (made: Made) => this.#settlements.persist(made, this.#shutdown.signal);
  readonly #unreadable: UnreadableEndpoints;

  constructor(deps: CourierDeps) {
    this.#deps = deps;
    this.#unreadable = new UnreadableEndpoints(deps);
    const onError = (error: unknown) => deps.log.error({ err: error }, 'courier');
    this.#leases = new Leases<AttemptRef>((held) => this.#renew(held), onError);
    this.#settlements = new GroupCommit<Made>({
      ...MEASURED_GROUPS,
      commit: async (made) => {
        const settled = await settle(made, deps);
        return new Set(made.filter(({ settlement }) => !settled.has(settlement.delivery.id)));
      },
    });
    this.loop = new ClaimLoop<Claimed>({
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
   * could not be recorded is left to its lease, and a keeper records it as interrupted.
   */
  async stop(graceMs: number): Promise<void> {
    const timer = setTimeout(() => this.#shutdown.abort(), graceMs);
    const { promise: outOfPatience, resolve } = Promise.withResolvers<void>();
    this.#shutdown.signal.addEventListener('abort', () => resolve(), { once: true });
    await Promise.race([this.loop.stop(), outOfPatience]);
    clearTimeout(timer);
    this.#leases.stop();
  }

  async #claim(limit: number): Promise<{ claimed: Claimed[]; more: boolean }> {
    const { db, keys, workerId, clock, endpointConcurrency: endpointLimit } = this.#deps;
    const claim = { limit, workerId, leaseMs: LEASE_MS, afterLane: this.#nextLane, now: clock.now(), endpointLimit };
    this.#places.claimBegins();
    const answer = await claimDeliveries(db.sql, claim);
    this.#nextLane = answer.nextLane;
    void this.#close(answer.closed);
    const opened = new Map(answer.destinations.map((sealed) => [sealed.endpointId, openDestination(sealed, keys)]));
    const { usable, unreadable } = splitReadable(answer, opened);
    await this.#unreadable.giveBack(unreadable);
    const more = this.#places.claimed(usable, limit) || answer.more;
    const claimed = usable.deliveries.map((delivery) => ({ delivery, destination: opened.get(delivery.endpointId)! }));
    return { claimed, more };
  }

  /** Beside the claim: what was claimed with it is under a lease already, and must be sent whatever becomes of this. */
  async #close(lanes: readonly EndpointRef[]): Promise<void> {
    try {
      let closed = 0;
      for (const lane of lanes) {
        const some = await closeLane(this.#deps.db.sql, lane, { limit: CLOSED_AT_ONCE, now: this.#deps.clock.now() });
        this.#deps.advanceJobs(some.following);
        closed += some.closed;
      }
      // There may be more of it.
      if (closed > 0) this.loop.wake();
    } catch (error) {
      this.#deps.log.error({ err: error }, 'courier');
    }
  }

  async #work({ delivery, destination }: Claimed): Promise<void> {
    const { accountId, id: deliveryId, attemptId } = delivery;
    const held = { accountId, deliveryId, attemptId };
    this.#leases.hold(held);
    try {
      const settlement = await attempt(delivery, destination, this.#deps);
      const made = { settlement, health: destination.health };
      const recorded = await recordAttempt(made, { ...this.#deps, persist: this.#persist });
      const { nextAttemptAt } = settlement.verdict;
      if (recorded !== undefined && nextAttemptAt !== null) this.#deps.dueAt(nextAttemptAt.getTime());
      this.#log(recorded ?? settlement, recorded !== undefined);
    } finally {
      this.#leases.drop(held);
      if (this.#places.freed(delivery.endpointId)) this.loop.wake();
    }
  }

  async #renew(held: readonly AttemptRef[]): Promise<readonly AttemptRef[]> {
    const renewed = await renewAttempts(this.#deps.db.sql, held, {
      leaseMs: LEASE_MS,
      now: this.#deps.clock.now(),
    });
    return held.filter(({ attemptId }) => !renewed.has(attemptId));
  }

  #log({ delivery, result, verdict, number }: Settlement, isOurs: boolean): void {
    const { response = null, timings } = 'response' in result ? result : {};
    this.#deps.log.info(
      {
        account_id: delivery.accountId,
        job_id: delivery.jobId,
        delivery_id: delivery.id,
        endpoint_id: delivery.endpointId,
        attempt_id: delivery.attemptId,
        number,
        outcome: result.outcome,
        ...(response && { status: response.status }),
        ...(result.errorCode && { error: result.errorCode }),
        delivery: isOurs ? verdict.status : 'refused',
        ...(verdict.nextAttemptAt && { next_attempt_at: verdict.nextAttemptAt }),
        ...(timings && { duration_ms: timings.totalMs }),
      },
      'attempt',
    );
  }
}
