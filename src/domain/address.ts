/**
 * Which addresses a callback may reach. Deny by default: an address is public only when it is ordinary
 * unicast in no special-purpose block; everything that cannot be read is forbidden.
 *
 * Sources: the IANA special-purpose registries for IPv4 and IPv6 (RFC 6890 and its updates), RFC 4291 (mapped,
 * compatible, site-local), 5214 (ISATAP), 6052 and 8215 (NAT64), 3056 (6to4), 4380 (Teredo), 9637 (documentation).
 */

export interface Cidr {
  /** As written. */
  readonly text: string;
  /** The first address: 4 bytes for IPv4, 16 for IPv6. */
  readonly bytes: Uint8Array;
  /** Leading bits that an address inside shares with it. */
  readonly prefix: number;
}

export type AddressVerdict =
  | { readonly verdict: 'public' }
  | { readonly verdict: 'allowed' }
  /** `range` names the block for people: `10.0.0.0/8 (private)`. */
  | { readonly verdict: 'forbidden'; readonly range: string };

/** What `parseCidr` takes; for the message of a config fault. */
export const CIDR_FORM =
  'an address or CIDR range such as 10.0.0.0/8, fd00::/8 or 192.0.2.7, with no bits set after the prefix';

const IPV4 = /^(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})$/;

/** Dotted decimal only: `0177.0.0.1` and `127.1` mean different things to different parsers. */
function parseIpv4(text: string): Uint8Array | undefined {
  const numbers = IPV4.exec(text)?.slice(1).map(Number);
  return numbers?.every((number) => number < 256) ? Uint8Array.from(numbers) : undefined;
}

/** The 16-bit groups on one side of `::`, as bytes; the last may be a dotted IPv4 address. */
function parseGroups(text: string, mayEndInIpv4: boolean): number[] | undefined {
  const bytes: number[] = [];
  const groups = text === '' ? [] : text.split(':');
  for (const [index, group] of groups.entries()) {
    if (mayEndInIpv4 && index === groups.length - 1 && group.includes('.')) {
      const ipv4 = parseIpv4(group);
      if (!ipv4) return undefined;
      bytes.push(...ipv4);
    } else if (/^[0-9a-f]{1,4}$/i.test(group)) {
      const value = Number.parseInt(group, 16);
      bytes.push(value >> 8, value & 255);
    } else {
      return undefined;
    }
  }
  return bytes;
}

/** RFC 4291 section 2.2. A zone id makes it no address: which interface it means is this machine's business. */
function parseIpv6(text: string): Uint8Array | undefined {
  const sides = text.split('::');
  if (sides.length > 2) return undefined;
  const head = parseGroups(sides[0]!, sides.length === 1);
  const tail = parseGroups(sides[1] ?? '', true);
  if (!head || !tail) return undefined;
  const missing = 16 - head.length - tail.length;
  const fits = sides.length === 2 ? missing >= 2 : missing === 0;
  return fits ? Uint8Array.from([...head, ...Array<number>(missing).fill(0), ...tail]) : undefined;
}

function parseAddress(text: string): Uint8Array | undefined {
  return text.includes(':') ? parseIpv6(text) : parseIpv4(text);
}

function contains(cidr: Cidr, address: Uint8Array): boolean {
  if (cidr.bytes.length !== address.length) return false;
  const whole = cidr.prefix >> 3;
  for (let index = 0; index < whole; index++) {
    if (cidr.bytes[index] !== address[index]) return false;
  }
  const rest = cidr.prefix & 7;
  return rest === 0 || (cidr.bytes[whole]! ^ address[whole]!) >> (8 - rest) === 0;
}

/** The range, or `undefined` when `text` is not `CIDR_FORM`. A bare address is a range of one. */
export function parseCidr(text: string): Cidr | undefined {
  const [, address, digits] = /^([^/]+)(?:\/(0|[1-9]\d{0,2}))?$/.exec(text) ?? [];
  const bytes = address === undefined ? undefined : parseAddress(address);
  if (!bytes) return undefined;
  const prefix = digits === undefined ? bytes.length * 8 : Number(digits);
  if (prefix > bytes.length * 8) return undefined;
  // 10.1.0.0/8 is more often a slip of the pen than a way to write 10.0.0.0/8.
  const tidy = bytes.every((byte, index) => (byte & (0xff >> Math.min(8, Math.max(0, prefix - index * 8)))) === 0);
  return tidy ? { text, bytes, prefix } : undefined;
}

const SPECIAL: ReadonlyArray<readonly [Cidr, string]> = [
  ['0.0.0.0/8', 'this network'],
  ['10.0.0.0/8', 'private'],
  ['100.64.0.0/10', 'carrier-grade NAT'],
  ['127.0.0.0/8', 'loopback'],
  ['168.63.129.16/32', 'Azure platform'], // a public address, yet the metadata service of every Azure machine
  ['169.254.0.0/16', 'link-local'],
  ['172.16.0.0/12', 'private'],
  ['192.0.0.0/24', 'IETF protocols'],
  ['192.0.2.0/24', 'documentation'],
  ['192.88.99.0/24', '6to4 relays'],
  ['192.168.0.0/16', 'private'],
  ['198.18.0.0/15', 'benchmarking'],
  ['198.51.100.0/24', 'documentation'],
  ['203.0.113.0/24', 'documentation'],
  ['224.0.0.0/4', 'multicast'],
  ['240.0.0.0/4', 'reserved'],
  ['::/128', 'unspecified'],
  ['::1/128', 'loopback'],
  // IPv4 inside IPv6: the whole block, whatever address it hides. No receiver has its only AAAA record here.
  ['::ffff:0:0/96', 'IPv4-mapped'],
  ['::ffff:0:0:0/96', 'IPv4-translated'],
  ['::/96', 'IPv4-compatible'],
  ['64:ff9b::/96', 'NAT64'],
  ['64:ff9b:1::/48', 'local NAT64'],
  ['2001::/32', 'Teredo'],
  ['2002::/16', '6to4'],
  ['100::/64', 'discard'],
  ['2001::/23', 'IETF protocols'], // benchmarking, ORCHID, AMT, ...
  ['2001:db8::/32', 'documentation'],
  ['3fff::/20', 'documentation'],
  ['fc00::/7', 'unique local'],
  ['fe80::/10', 'link-local'],
  ['fec0::/10', 'site-local'],
  ['ff00::/8', 'multicast'],
].map(([text, name]) => [parseCidr(text!)!, `${text} (${name})`]);

const GLOBAL_UNICAST = parseCidr('2000::/3')!;
const MAPPED = parseCidr('::ffff:0:0/96')!;

/** ISATAP puts IPv4 into the interface id of any /64: `00-00-5e-fe` (RFC 5214), its two flag bits free. */
function isIsatap(bytes: Uint8Array): boolean {
  return (bytes[8]! & 0xfc) === 0 && bytes[9] === 0 && bytes[10] === 0x5e && bytes[11] === 0xfe;
}

/**
 * Judges one address as a resolver or the URL parser writes it. `allow` wins over every range; an IPv4-mapped
 * address also matches an IPv4 entry, because connecting to it reaches that IPv4 address.
 */
export function judgeAddress(address: string, allow: readonly Cidr[]): AddressVerdict {
  const bytes = parseAddress(address);
  if (!bytes) return { verdict: 'forbidden', range: 'text that is no plain IP address' };
  const mapped = contains(MAPPED, bytes) ? bytes.subarray(12) : bytes;
  if (allow.some((cidr) => contains(cidr, bytes) || contains(cidr, mapped))) return { verdict: 'allowed' };

  const special = SPECIAL.find(([cidr]) => contains(cidr, bytes));
  if (special) return { verdict: 'forbidden', range: special[1] };
  if (bytes.length === 4) return { verdict: 'public' };
  if (!contains(GLOBAL_UNICAST, bytes)) return { verdict: 'forbidden', range: 'IPv6 outside 2000::/3' };
  if (isIsatap(bytes)) return { verdict: 'forbidden', range: 'IPv4 inside IPv6 (ISATAP)' };
  return { verdict: 'public' };
}
