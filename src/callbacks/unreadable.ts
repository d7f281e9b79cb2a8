import type { Clock } from '#domain/clock.ts';
import type { EndpointId } from '#domain/ids.ts';
import type { SecretKey } from '#domain/secret-box.ts';
import type { Logger } from '#log.ts';
import type { ClaimedDeliveries, ClaimedDelivery, SealedDestination } from '#store/claim-deliveries.ts';
import type { Database } from '#store/database.ts';
import { giveBackAttempts } from '#store/delivery-queue.ts';
import { type Destination, isReadable } from './destination.ts';

/** What was claimed for endpoints whose secrets cannot be decrypted here. */
export type Unreadable = Pick<ClaimedDeliveries, 'deliveries' | 'destinations'>;

export function splitReadable(
  claimed: ClaimedDeliveries,
  opened: ReadonlyMap<EndpointId, Destination>,
): { readonly usable: ClaimedDeliveries; readonly unreadable: Unreadable } {
  const isUsable = ({ endpointId }: { readonly endpointId: EndpointId }) => isReadable(opened.get(endpointId)!);
  const usable = {
    ...claimed,
    deliveries: claimed.deliveries.filter(isUsable),
    destinations: claimed.destinations.filter(isUsable),
  };
  const unreadable = {
    deliveries: claimed.deliveries.filter((delivery) => !isUsable(delivery)),
    destinations: claimed.destinations.filter((destination) => !isUsable(destination)),
  };
  return { usable, unreadable };
}

/** How long such an endpoint is left alone. Another process may have the key, or this one be replaced by one that has. */
const PAUSE_MS = 30_000;
const SAY_AGAIN_MS = 60_000;

interface UnreadableDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly keys: readonly SecretKey[];
  readonly log: Logger;
}

/**
 * Gives deliveries back that cannot be signed. Nothing may be sent unsigned, and the receiver has done nothing wrong: its
 * retry schedule stays as it is, and the deliveries wait until the key is there, or until another secret signs.
 */
export class UnreadableEndpoints {
  readonly #deps: UnreadableDeps;
  /** When each reason was logged last, by the process's own clock. */
  readonly #saidAt = new Map<string, number>();

  constructor(deps: UnreadableDeps) {
    this.#deps = deps;
  }

  /** Never throws: should it fail, the leases run out. */
  async giveBack({ deliveries, destinations }: Unreadable): Promise<void> {
    if (deliveries.length === 0) return;
    for (const destination of destinations) this.#say(destination);
    try {
      await giveBackAttempts(
        this.#deps.db.sql,
        deliveries.map(attemptOf),
        new Date(this.#deps.clock.now().getTime() + PAUSE_MS),
      );
    } catch (error) {
      this.#deps.log.error({ err: error }, 'courier');
    }
  }

  #say({ accountId, endpointId, secrets, tls }: SealedDestination): void {
    const known = new Set(this.#deps.keys.map(({ id }) => id));
    const used = [...secrets.map(({ keyId }) => keyId), ...(tls?.keyId ? [tls.keyId] : [])];
    const missing = [...new Set(used.filter((keyId) => !known.has(keyId)))];
    const reason = missing.length > 0 ? missing.join() : endpointId;
    const now = performance.now();
    if (now - (this.#saidAt.get(reason) ?? -SAY_AGAIN_MS) < SAY_AGAIN_MS) return;
    if (this.#saidAt.size > 1000) this.#saidAt.clear();
    this.#saidAt.set(reason, now);
    this.#deps.log.error(
      { account_id: accountId, endpoint_id: endpointId, ...(missing.length > 0 && { missing_key_ids: missing }) },
      missing.length > 0
        ? 'callbacks wait: RINGBACK_SECRET_KEY lacks the keys that encrypted secrets of this endpoint, and maybe of others'
        : 'callbacks wait: no secret of this endpoint can be decrypted; rotate it',
    );
  }
}

function attemptOf({ accountId, id: deliveryId, attemptId }: ClaimedDelivery) {
  return { accountId, deliveryId, attemptId };
}
