import { expect, test } from 'vitest';
import { interleave } from '#egress/connect.ts';

test.each([
  [[], []],
  [['1.1.1.1'], ['1.1.1.1']],
  [
    ['::1', '::2', '::3', '1.1.1.1', '1.1.1.2'],
    ['::1', '1.1.1.1', '::2', '1.1.1.2', '::3'],
  ],
  [
    ['1.1.1.1', '1.1.1.2', '::1'],
    ['1.1.1.1', '::1', '1.1.1.2'],
  ],
])('addresses %j are tried in the order %j', (addresses, order) => {
  expect(interleave(addresses)).toEqual(order);
});
