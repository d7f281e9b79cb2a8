import { CONNECTION_HEADERS } from './connection-headers.ts';

/** Names that a request to a receiver may not bring along: the message, its connection and its signature are ours. */
const RESERVED = new Set([
  ...CONNECTION_HEADERS,
  'content-encoding',
  'content-type',
  'cookie',
  'host',
  'proxy-authorization',
  'user-agent',
]);

const TOKEN = /^[\w!#$%&'*+.^`|~-]{1,100}$/;
/** Visible ASCII, spaces inside: nothing that could end a line or start another. */
const VALUE = /^[!-~](?:[ -~]{0,998}[!-~])?$/;
export const MAX_HEADERS = 20;

/** What is wrong with a header of an endpoint's own; undefined when nothing is. RFC 9110, 5.1 and 5.5. */
export function headerFault(name: string, value: string): string | undefined {
  if (!TOKEN.test(name)) return 'is no header name';
  const lower = name.toLowerCase();
  if (RESERVED.has(lower) || lower.startsWith('webhook-')) return 'is set by Ringback: leave it out';
  if (!VALUE.test(value)) return 'must have a value of 1 to 1,000 printable ASCII characters';
  return undefined;
}
