import { randomFillSync } from 'node:crypto';

/**
 * Every id is a TypeID (https://github.com/jetify-com/typeid, spec 0.3): `<prefix>_<26 characters>`, the
 * suffix being a UUIDv7 (RFC 9562) in Crockford base32. It sorts by creation time, in SQL too, because id
 * columns are `COLLATE "C"`.
 */
declare const brand: unique symbol;
type Id<Prefix extends string> = `${Prefix}_${string}` & { readonly [brand]: Prefix };

export type AccountId = Id<'acc'>;
export type ApiKeyId = Id<'key'>;
export type JobId = Id<'job'>;
export type RunId = Id<'run'>;
export type EventId = Id<'evt'>;
export type EndpointId = Id<'ep'>;
export type SecretId = Id<'sec'>;
export type DeliveryId = Id<'dlv'>;
export type AttemptId = Id<'att'>;
export type WorkerId = Id<'wrk'>;
export type ScheduleId = Id<'sch'>;

interface IdByPrefix {
  acc: AccountId;
  key: ApiKeyId;
  job: JobId;
  run: RunId;
  evt: EventId;
  ep: EndpointId;
  sec: SecretId;
  dlv: DeliveryId;
  att: AttemptId;
  wrk: WorkerId;
  sch: ScheduleId;
}
export type IdPrefix = keyof IdByPrefix;

const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';
const SUFFIX = /^[0-7][0-9a-hjkmnp-tv-z]{25}$/;

// One kernel call for many ids: `randomFillSync` of 10 bytes costs as much as of 4 KiB.
const pool = new Uint8Array(4096);
let poolOffset = pool.length;

function takeRandom(count: number): Uint8Array {
  if (poolOffset + count > pool.length) {
    randomFillSync(pool);
    poolOffset = 0;
  }
  const bytes = pool.subarray(poolOffset, poolOffset + count);
  poolOffset += count;
  return bytes;
}

/** A fresh UUIDv7: 48 bits of `now` (Unix milliseconds), then 74 random bits. */
function uuidV7(now: number, random: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(16);
  for (let index = 5, rest = now; index >= 0; index--) {
    bytes[index] = rest % 256;
    rest = Math.floor(rest / 256);
  }
  bytes.set(random, 6);
  bytes[6] = 0x70 | (bytes[6]! & 0x0f);
  bytes[8] = 0x80 | (bytes[8]! & 0x3f);
  return bytes;
}

/** 128 bits as 26 base32 digits, most significant first; the first digit holds 3 bits. */
function encode(bytes: Uint8Array): string {
  let text = '';
  let bits = 2; // two zero bits on the left make 130 = 26 * 5
  let value = 0;
  for (const byte of bytes) {
    value = (value << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += ALPHABET[(value >>> bits) & 31]!;
    }
    value &= (1 << bits) - 1;
  }
  return text;
}

function decode(suffix: string): Uint8Array {
  const bytes = new Uint8Array(16);
  let bits = -2; // drop the two zero bits on the left
  let value = 0;
  let index = 0;
  for (const digit of suffix) {
    value = (value << 5) | ALPHABET.indexOf(digit);
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      bytes[index++] = (value >>> bits) & 255;
    }
    value &= (1 << bits) - 1;
  }
  return bytes;
}

/**
 * Makes an id. `now` is Unix milliseconds; ids made later sort later (to the millisecond).
 * `random` is 10 bytes, for tests; left out, they come from the operating system.
 */
export function newId<P extends IdPrefix>(prefix: P, now: number, random = takeRandom(10)): IdByPrefix[P] {
  return `${prefix}_${encode(uuidV7(now, random))}` as IdByPrefix[P];
}

const LAST_MS = 2 ** 48 - 1;
const NO_BITS = new Uint8Array(10);

/**
 * What a time means where rows are found by id: the lowest id that can be made at `ms` (Unix milliseconds). A time that no
 * id can hold is cut to the nearest that one can.
 */
export function idBound<P extends IdPrefix>(prefix: P, ms: number): IdByPrefix[P] {
  return newId(prefix, Math.min(Math.max(0, Math.floor(ms)), LAST_MS), NO_BITS);
}

/** The id, when `text` has the form of an id with that prefix; otherwise `undefined`. */
export function parseId<P extends IdPrefix>(prefix: P, text: string): IdByPrefix[P] | undefined {
  const isId = text.startsWith(`${prefix}_`) && SUFFIX.test(text.slice(prefix.length + 1));
  return isId ? (text as IdByPrefix[P]) : undefined;
}

/** The UUID inside an id, in its usual spelling. */
export function uuidOf(id: Id<IdPrefix>): string {
  const hex = Buffer.from(decode(id.slice(id.indexOf('_') + 1))).toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** When the id was made, in Unix milliseconds. */
export function timeOf(id: Id<IdPrefix>): number {
  return Buffer.from(decode(id.slice(id.indexOf('_') + 1))).readUIntBE(0, 6);
}
