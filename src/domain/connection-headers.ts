/**
 * Names that no request may bring along, in lower case: each would change where a message ends, what becomes of its
 * connection, or in which coding the answer comes.
 */
export const CONNECTION_HEADERS: ReadonlySet<string> = new Set([
  'accept-encoding',
  'connection',
  'content-length',
  'expect',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);
