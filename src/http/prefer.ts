/** However long a client would wait: proxies in between cut a silent connection sooner or later. */
export const MAX_WAIT_SECONDS = 60;

const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const WORD = String.raw`(?:${TOKEN}|"(?:[^"\\]|\\.)*")`;
const VALUE = String.raw`[ \t]*=[ \t]*${WORD}`;
/** RFC 7240, 2: a name, perhaps a value, perhaps parameters. An element of a list may be empty (RFC 9110, 5.6.1). */
const PREFERENCE = new RegExp(
  String.raw`[ \t]*(?:(${TOKEN})(?:[ \t]*=[ \t]*(${WORD}))?(?:[ \t]*;(?:[ \t]*${TOKEN}(?:${VALUE})?)?)*)?[ \t]*(?:,|$)`,
  'y',
);

/**
 * Seconds that a `Prefer` field asks to wait for (RFC 7240, 4.3), up to 60. Undefined when it does not, or is malformed:
 * preferences that are not understood are ignored (2).
 */
export function preferredWait(header: string | undefined): number | undefined {
  if (header === undefined) return undefined;
  let wait: string | undefined;
  for (let at = 0; at < header.length; at = PREFERENCE.lastIndex) {
    PREFERENCE.lastIndex = at;
    const match = PREFERENCE.exec(header);
    if (match === null) return undefined;
    const [, name, value = ''] = match;
    // The first one counts (2).
    if (name?.toLowerCase() === 'wait') wait ??= value.replace(/^"(.*)"$/, '$1');
  }
  return wait !== undefined && /^\d+$/.test(wait) ? Math.min(MAX_WAIT_SECONDS, Number(wait)) : undefined;
}
