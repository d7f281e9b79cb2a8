import { parseCidr } from '#domain/address.ts';
import type { EgressPolicy } from '#domain/callback-url.ts';

/** For URLs that the platform owner writes: they may lead to any address and port, with TLS or without. */
export const ANYWHERE: EgressPolicy = {
  allow: [parseCidr('0.0.0.0/0')!, parseCidr('::/0')!],
  allowHttp: true,
  ports: [],
};
