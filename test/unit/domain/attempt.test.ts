import { expect, test } from 'vitest';
import { isOurFault } from '#domain/attempt.ts';

test.each([
  ['proxy_unreachable', true],
  ['proxy_target_unreachable', true],
  ['secret_unreadable', true],
  ['tls_key_unreadable', true],
  ['source_address_unusable', true],
  ['out_of_resources', true],
  ['courier_lost', true],
  ['connection_refused', false],
  ['connect_timeout', false],
  ['status_502', false],
  ['dns_failed', false],
  ['address_forbidden', false],
  [null, false],
])('an attempt that ended with %s was our fault: %s', (code, ours) => {
  expect(isOurFault(code)).toBe(ours);
});
