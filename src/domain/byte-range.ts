/** Bytes of a representation, both ends included: what `Content-Range` says. */
export interface ByteRange {
  readonly first: number;
  readonly last: number;
}

const UNIT = /^bytes=(.*)$/is;
const SPEC = /^(\d*)-(\d*)$/;

/**
 * What a `Range` header asks of a representation of that length (RFC 9110, 14.1.2). `whole` for whatever may be ignored:
 * another unit, several ranges, what is not well formed. `none` when the one range lies beyond the end.
 *
 * Digits may be any number: those beyond 2^53 lose their last places, which changes no comparison with a length.
 */
export function parseByteRange(header: string | undefined, length: number): ByteRange | 'whole' | 'none' {
  // A list may have empty elements and white space around the others (RFC 9110, 5.6.1).
  const specs = UNIT.exec(header ?? '')?.[1]
    ?.split(',')
    .map((spec) => spec.replaceAll(/^[\t ]+|[\t ]+$/g, ''));
  const [spec, ...others] = (specs ?? []).filter((item) => item !== '');
  const [, from, to] = SPEC.exec(spec ?? '') ?? [];
  if (others.length > 0 || from === undefined || to === undefined) return 'whole';
  return from === ''
    ? suffix(to, length)
    : between(Number(from), to === '' ? Number.POSITIVE_INFINITY : Number(to), length);
}

/** The last so many bytes. */
function suffix(digits: string, length: number): ByteRange | 'whole' | 'none' {
  if (digits === '') return 'whole';
  const count = Number(digits);
  if (count === 0) return 'none';
  // Nothing has a last byte: no Content-Range can say so.
  return length === 0 ? 'whole' : { first: Math.max(0, length - count), last: length - 1 };
}

function between(first: number, last: number, length: number): ByteRange | 'whole' | 'none' {
  if (last < first) return 'whole';
  return first >= length ? 'none' : { first, last: Math.min(last, length - 1) };
}
