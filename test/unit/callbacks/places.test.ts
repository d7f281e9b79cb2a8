import { expect, test } from 'vitest';
import { type EndpointId, newId } from '#domain/ids.ts';
import { FIRST_LANE } from '#store/claim-deliveries.ts';
import { Places } from '../../../src/callbacks/places.ts';

const [one, other] = [newId('ep', 1), newId('ep', 2)];

/** A claim that gave nobody anything, and passed one endpoint over. */
const passedOver = (endpointId: EndpointId, underWay: number) => ({
  deliveries: [],
  destinations: [],
  more: false,
  closed: [],
  crowded: [{ endpointId, underWay }],
  nextLane: FIRST_LANE,
});

/** How many of these places come free before it is time to claim; all of them and one more when it is not. */
function untilClaim(places: Places, freed: readonly EndpointId[]): number {
  const index = freed.findIndex((endpointId) => places.freed(endpointId));
  return (index < 0 ? freed.length : index) + 1;
}

test.each([
  // [under way, free, whose places come free, how many until half of what it has may be taken]
  [1, 1, one, 1],
  [1, 1, other, 1],
  [2, 1, other, 2],
  [2, 1, one, 1],
  [100, 100, one, 50],
  [100, 100, other, 99],
])('with %i under way and %i free, it is claimed when enough is free', (underWay, free, whose, expected) => {
  const places = new Places();
  places.claimBegins();
  expect(places.claimed(passedOver(one, underWay), free)).toBe(false);
  expect(untilClaim(places, Array<EndpointId>(200).fill(whose))).toBe(expected);
});

test('what comes free while a claim is under way counts, though the claim may not have seen it', () => {
  const places = new Places();
  places.claimBegins();
  places.freed(one);
  expect(places.claimed(passedOver(one, 1), 1)).toBe(true);
  places.claimBegins();
  expect(places.claimed(passedOver(one, 1), 1), 'but once').toBe(false);
});
