import { expect, test } from 'vitest';
import { type IdPrefix, idBound, newId, parseId, timeOf, uuidOf } from '#domain/ids.ts';

const NOW = Date.UTC(2026, 0, 31, 12);
const LAST_MS = 2 ** 48 - 1;

function job(suffix: string) {
  const id = parseId('job', `job_${suffix}`);
  if (id === undefined) throw new Error(`job_${suffix} is refused`);
  return id;
}

// https://github.com/jetify-com/typeid/blob/main/spec/valid.json
test.each([
  ['nil', '00000000000000000000000000', '00000000-0000-0000-0000-000000000000'],
  ['one', '00000000000000000000000001', '00000000-0000-0000-0000-000000000001'],
  ['ten', '0000000000000000000000000a', '00000000-0000-0000-0000-00000000000a'],
  ['sixteen', '0000000000000000000000000g', '00000000-0000-0000-0000-000000000010'],
  ['thirty-two', '00000000000000000000000010', '00000000-0000-0000-0000-000000000020'],
  ['max-valid', '7zzzzzzzzzzzzzzzzzzzzzzzzz', 'ffffffff-ffff-ffff-ffff-ffffffffffff'],
  ['valid-alphabet', '0123456789abcdefghjkmnpqrs', '0110c853-1d09-52d8-d73e-1194e95b5f19'],
  ['valid-uuidv7', '01h455vb4pex5vsknk084sn02q', '01890a5d-ac96-774b-bcce-b302099a8057'],
])('the TypeID vector %s is read as its UUID', (_name, suffix, uuid) => {
  expect(uuidOf(job(suffix))).toBe(uuid);
});

test('the TypeID vector valid-uuidv7 is written from its time and random bits', () => {
  const random = Buffer.from('774bbcceb302099a8057', 'hex');
  expect(newId('job', 0x01890a5dac96, random)).toBe('job_01h455vb4pex5vsknk084sn02q');
});

// https://github.com/jetify-com/typeid/blob/main/spec/invalid.json, with our own prefix where the suffix is at fault
test.each([
  ['prefix-uppercase', 'JOB_00000000000000000000000000'],
  ['prefix-numeric', '12345_00000000000000000000000000'],
  ['prefix-period', 'j.b_00000000000000000000000000'],
  ['prefix-non-ascii', 'jöb_00000000000000000000000000'],
  ['prefix-spaces', '  job_00000000000000000000000000'],
  ['separator-empty-prefix', '_00000000000000000000000000'],
  ['separator-empty', '_'],
  ['suffix-short', 'job_1234567890123456789012345'],
  ['suffix-long', 'job_123456789012345678901234567'],
  ['suffix-spaces', 'job_1234567890123456789012345 '],
  ['suffix-uppercase', 'job_0123456789ABCDEFGHJKMNPQRS'],
  ['suffix-hyphens', 'job_123456789-123456789-123456'],
  ['suffix-wrong-alphabet', 'job_ooooooiiiiiiuuuuuuulllllll'],
  ['suffix-ambiguous-crockford', 'job_i23456789ol23456789oi23456'],
  ['suffix-hyphens-crockford', 'job_123456789-0123456789-0123456'],
  ['suffix-overflow', 'job_8zzzzzzzzzzzzzzzzzzzzzzzzz'],
  ['prefix-underscore-start', '_job_00000000000000000000000000'],
  ['prefix-underscore-end', 'job__00000000000000000000000000'],
  ['another prefix', 'run_00000000000000000000000000'],
  ['a prefix that begins with ours', 'jobs_00000000000000000000000000'],
  ['no separator', 'job00000000000000000000000000'],
  ['a UUID', '01890a5d-ac96-774b-bcce-b302099a8057'],
  ['one upper-case letter', 'job_01h455vb4pex5vsknk084sn02Q'],
  ['a line break after it', 'job_01h455vb4pex5vsknk084sn02q\n'],
  ['a NUL after it', 'job_01h455vb4pex5vsknk084sn02q\0'],
  ['a full-width digit', 'job_01h455vb4pex5vsknk084sn02１'],
  ['nothing', ''],
])('%s is no job id', (_fault, text) => {
  expect(parseId('job', text)).toBeUndefined();
});

test.each(['u', 'i', 'l', 'o'])('the letter %s, which the alphabet leaves out, is refused in every place', (letter) => {
  const suffix = '01h455vb4pex5vsknk084sn02q';
  const spoilt = Array.from(suffix, (_, at) => `job_${suffix.slice(0, at)}${letter}${suffix.slice(at + 1)}`);
  expect(spoilt.filter((text) => parseId('job', text) !== undefined)).toEqual([]);
});

test.each(['0', '1', '7'])('a first digit of %s is within 128 bits', (digit) => {
  expect(parseId('job', `job_${digit}zzzzzzzzzzzzzzzzzzzzzzzzz`)).toBeDefined();
});

test.each(['8', '9', 'a', 'z'])('a first digit of %s is beyond 128 bits', (digit) => {
  expect(parseId('job', `job_${digit}0000000000000000000000000`)).toBeUndefined();
});

test.each<IdPrefix>(['acc', 'key', 'job', 'run', 'evt', 'ep', 'sec', 'dlv', 'att', 'wrk'])(
  'a new %s id is read back with its own prefix and with no other',
  (prefix) => {
    const id = newId(prefix, NOW);
    expect(parseId(prefix, id)).toBe(id);
    expect(parseId(prefix === 'job' ? 'run' : 'job', id)).toBeUndefined();
  },
);

test.each([0, 1, 255, 256, 2 ** 32 - 1, 2 ** 32, NOW, LAST_MS])('an id tells that it was made at %d ms', (ms) => {
  expect(timeOf(newId('evt', ms))).toBe(ms);
});

test.each([
  ['zeros', 0x00],
  ['ones', 0xff],
])('version and variant are those of UUIDv7 when the random bits are all %s', (_name, byte) => {
  const uuid = uuidOf(newId('job', NOW, new Uint8Array(10).fill(byte)));
  expect(uuid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

test('the 74 random bits all reach the id', () => {
  const ids = Array.from({ length: 80 }, (_, bit) => {
    const random = new Uint8Array(10);
    random[bit >> 3] = 1 << (bit & 7);
    return newId('job', NOW, random);
  });
  // Six of the 80 bits make room for version and variant: each of those gives the id of all zeros.
  expect(new Set(ids).size).toBe(75);
});

test('ids sort by the time they were made, whatever their random bits', () => {
  const times = [0, 1, 31, 32, 1023, 1024, 2 ** 40, NOW, NOW + 1, LAST_MS];
  const earlierIsRandomlyHigh = times.map((ms, index) =>
    newId('job', ms, new Uint8Array(10).fill(index % 2 === 0 ? 0xff : 0x00)),
  );
  expect(earlierIsRandomlyHigh.toSorted()).toEqual(earlierIsRandomlyHigh);
});

test('10,000 ids of one millisecond differ, as ids and as UUIDs', () => {
  const ids = Array.from({ length: 10_000 }, () => newId('job', NOW));
  expect(new Set(ids).size).toBe(10_000);
  expect(new Set(ids.map((id) => uuidOf(id))).size).toBe(10_000);
});

test.each([0, 1, 31, 32, NOW, LAST_MS])('the bound of %d ms parts the ids made then from those made before', (ms) => {
  const bound = idBound('job', ms);
  expect(parseId('job', bound)).toBe(bound);
  expect(timeOf(bound)).toBe(ms);
  expect(newId('job', ms, new Uint8Array(10)) >= bound).toBe(true);
  expect(ms === 0 || newId('job', ms - 1, new Uint8Array(10).fill(0xff)) < bound).toBe(true);
});

test.each([
  [-1, 0],
  [-Infinity, 0],
  [0.5, 0],
  [NOW + 0.999, NOW],
  [LAST_MS + 1, LAST_MS],
  [8.64e15, LAST_MS],
  [Infinity, LAST_MS],
])('the bound of %d ms, which no id can tell, is that of %d ms', (ms, nearest) => {
  expect(idBound('evt', ms)).toBe(idBound('evt', nearest));
});
