/** `"..."`, perhaps with `W/` before it; a comma may stand inside (RFC 9110, 8.8.3). */
const ENTITY_TAG = /(?:W\/)?"[\x21\x23-\x7e\x80-\xff]*"/g;

/** Whether `If-None-Match` names the tag, or says `*`: then the client has it already (13.1.2: the weak comparison). */
export function isNoneMatch(header: string | undefined, tag: string): boolean {
  if (header === undefined) return false;
  if (header.trim() === '*') return true;
  return header.match(ENTITY_TAG)?.some((given) => given.replace(/^W\//, '') === tag.replace(/^W\//, '')) === true;
}

/** Whether `If-Range` allows a range: it is not there, or names the tag (13.1.5: the strong comparison; we know no dates). */
export function isIfRange(header: string | undefined, tag: string): boolean {
  return header === undefined || (header.trim() === tag && !tag.startsWith('W/'));
}
