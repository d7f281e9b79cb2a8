import type { Clock } from '#domain/clock.ts';
import { refuseUnknown, refuseUnverified } from '#domain/callback-target.ts';
import type { AccountId, EndpointId } from '#domain/ids.ts';
import { type Result, refuse } from '#domain/problem.ts';
import type { Database } from '#store/database.ts';
import { insertEndpointEvents } from '#store/endpoint-events.ts';
import { lockHealth } from '#store/endpoint-health.ts';
import { deleteEndpoint, enableEndpoint, type EndpointRecord, pauseEndpoint, readEndpoints } from '#store/endpoints.ts';
import { discardHeld, readUnsent } from '#store/redeliver.ts';
import { endpointEvent } from './settle.ts';

export type { EndpointRecord };

const HELD_AT_ONCE = 1000;

export interface EndpointsDeps {
  readonly db: Database;
  readonly clock: Clock;
  /** Called after the commit of a delivery that may be sent now. */
  readonly announceDeliveries: () => void;
  /** Called after the commit of events of these accounts. */
  readonly eventsWritten: (accountIds: readonly AccountId[]) => void;
}

/** What becomes of endpoints; `registration.ts` makes and changes them. */
export class Endpoints {
  readonly #deps: EndpointsDeps;

  constructor(deps: EndpointsDeps) {
    this.#deps = deps;
  }

  async find(accountId: AccountId, id: EndpointId): Promise<Result<EndpointRecord>> {
    const [endpoint] = await readEndpoints(this.#deps.db, accountId, { id, limit: 1 });
    return endpoint === undefined ? refuseUnknown(id) : { ok: true, value: endpoint };
  }

  list(accountId: AccountId, page: { after?: EndpointId; limit: number }): Promise<EndpointRecord[]> {
    return readEndpoints(this.#deps.db, accountId, page);
  }

  /** Sends nothing more until it is enabled; what is for it waits. May be asked again. */
  async pause(accountId: AccountId, id: EndpointId): Promise<Result<EndpointRecord>> {
    const isPaused = await pauseEndpoint(this.#deps.db.sql, { accountId, id }, this.#deps.clock.now());
    const endpoint = await this.find(accountId, id);
    if (isPaused || !endpoint.ok || endpoint.value.status === 'paused') return endpoint;
    if (endpoint.value.status === 'unverified') return refuseUnverified(id);
    return refuse('endpoint_disabled', `The endpoint ${id} is disabled: there is nothing to pause.`);
  }

  /**
   * Takes a paused or disabled endpoint up again, as if it had never failed. What waited for a paused one is sent; what was
   * held for a disabled one waits for `recover`. May be asked again.
   */
  async enable(accountId: AccountId, id: EndpointId): Promise<Result<EndpointRecord>> {
    const { db, announceDeliveries, eventsWritten } = this.#deps;
    const now = this.#deps.clock.now();
    await db.transaction(async (tx) => {
      // Health before the endpoint, as a settlement that disables it: so the two cannot deadlock.
      await lockHealth(tx, [{ accountId, endpointId: id }]);
      if (!(await enableEndpoint(tx, { accountId, id }, now))) return;
      await insertEndpointEvents(tx, [endpointEvent('endpoint.recovered', { accountId, endpointId: id }, now, {})]);
    });
    eventsWritten([accountId]);
    announceDeliveries();
    const endpoint = await this.find(accountId, id);
    return endpoint.ok && endpoint.value.status === 'unverified' ? refuseUnverified(id) : endpoint;
  }

  /** What was for it ends as discarded, on record; its URL may be registered anew. */
  async remove(accountId: AccountId, id: EndpointId): Promise<Result<undefined>> {
    const { db, announceDeliveries } = this.#deps;
    const now = this.#deps.clock.now();
    if (!(await deleteEndpoint(db.sql, { accountId, id }, now))) return refuseUnknown(id);
    // Couriers discard what is queued when they meet it.
    announceDeliveries();
    await this.#discardHeld(accountId, id, now);
    return { ok: true, value: undefined };
  }

  async #discardHeld(accountId: AccountId, endpointId: EndpointId, now: Date): Promise<void> {
    const { db } = this.#deps;
    const held = { endpointId, statuses: ['held'] as const, eventTypes: null, since: new Date(0), until: now };
    for (let after: Parameters<typeof readUnsent>[2]['after'] = ''; ;) {
      const page = await readUnsent(db, accountId, { ...held, after, limit: HELD_AT_ONCE });
      const ids = page.filter(({ matches }) => matches).map(({ id }) => id);
      if (ids.length > 0) await discardHeld(db.sql, accountId, { ids, now });
      const last = page.at(-1);
      if (last === undefined || page.length < HELD_AT_ONCE) return;
      after = last.id;
    }
  }
}
