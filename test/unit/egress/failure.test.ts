import { expect, test } from 'vitest';
import { isOurFault } from '#domain/attempt.ts';
import { failureOf } from '#egress/failure.ts';

test.each(['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM'])('%s is not charged to the receiver, at no stage', (code) => {
  for (const stage of ['dns', 'proxy', 'connect', 'tls', 'ready'] as const) {
    const failure = failureOf(Object.assign(new Error(code), { code }), stage, false);
    expect(failure).toMatchObject({ outcome: 'network', code: 'out_of_resources' });
    expect(isOurFault(failure.code)).toBe(true);
  }
});
