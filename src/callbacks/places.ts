import type { EndpointId } from '#domain/ids.ts';
import type { ClaimedDeliveries, CrowdedLane } from '#store/claim-deliveries.ts';

/**
 * Whose deliveries may wait for a place of this courier, and so when to claim again though nothing was queued: not for each place
 * that comes free, but for half of those that an endpoint has.
 */
export class Places {
  /** Endpoints that got as many as they may, and have more waiting, it may be. */
  readonly #full = new Map<EndpointId, { underWay: number; claimAt: number }>();
  /** Endpoints that the last claim passed over, by how much is missing: see `missing`. */
  #crowded = new Map<EndpointId, number>();
  /** Whose places came free since the last claim began: it may not have seen them. */
  #unseen: EndpointId[] = [];

  claimBegins(): void {
    this.#unseen = [];
  }

  /**
   * Notes who got how much. Answers whether to claim again, for what came free while the claim was under way.
   * @param limit the places that the claim was made for
   */
  claimed({ deliveries, destinations, crowded }: ClaimedDeliveries, limit: number): boolean {
    const byEndpoint = Map.groupBy(deliveries, ({ endpointId }) => endpointId);
    for (const { endpointId, room } of destinations) {
      const taken = byEndpoint.get(endpointId)!.length;
      const underWay = (this.#full.get(endpointId)?.underWay ?? 0) + taken;
      if (taken >= room) this.#full.set(endpointId, { underWay, claimAt: Math.floor(underWay / 2) });
      else this.#full.delete(endpointId);
    }
    this.#crowded = new Map(crowded.map((lane) => [lane.endpointId, missing(lane, limit - deliveries.length)]));
    return this.#unseen.map((endpointId) => this.#makeRoom(endpointId)).includes(true);
  }

  /** Somebody's place is free, and what it was taken for is on record. Answers whether to claim. */
  freed(endpointId: EndpointId): boolean {
    this.#unseen.push(endpointId);
    const isRoomForCrowded = this.#makeRoom(endpointId);
    return this.#isHalfFree(endpointId) || isRoomForCrowded;
  }

  #isHalfFree(endpointId: EndpointId): boolean {
    const full = this.#full.get(endpointId);
    if (full === undefined) return false;
    full.underWay -= 1;
    if (full.underWay > full.claimAt) return false;
    full.claimAt = Math.floor(full.underWay / 2);
    if (full.underWay <= 0) this.#full.delete(endpointId);
    return true;
  }

  #makeRoom(freed: EndpointId): boolean {
    let isRoom = false;
    for (const [endpointId, before] of this.#crowded) {
      const left = before - (endpointId === freed ? 2 : 1);
      if (left > 0) this.#crowded.set(endpointId, left);
      else isRoom = this.#crowded.delete(endpointId);
    }
    return isRoom;
  }
}

/**
 * By how much what is free must exceed what an endpoint has under way, beyond what it does, so that a claim leaves it half of the
 * places that it has now. A place of its own that comes free counts twice.
 */
function missing({ underWay }: CrowdedLane, free: number): number {
  const wanted = Math.max(1, Math.floor(underWay / 2));
  return 2 * wanted - 1 - (free - underWay);
}
