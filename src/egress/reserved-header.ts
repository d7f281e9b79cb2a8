import type { Failure } from './failure.ts';

/** A request that brings a header along which is the sender's to set. */
export function reservedHeader(name: string): Failure {
  const detail = `The header ${name.toLowerCase()} is set by the sender: leave it out.`;
  return { outcome: 'blocked', code: 'request_invalid', detail };
}
