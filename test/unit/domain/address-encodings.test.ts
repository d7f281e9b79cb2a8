import { expect, test } from 'vitest';
import { judgeUrl, type EgressPolicy } from '#domain/callback-url.ts';

/** As open as it can be made without allowing a range. */
const OPEN: EgressPolicy = { allow: [], allowHttp: true, ports: [80, 443] };

const INSIDE = [
  '0.0.0.0',
  '10.0.0.1',
  '100.64.0.1',
  '127.0.0.1',
  '168.63.129.16',
  '169.254.169.254',
  '172.16.0.1',
  '192.0.0.1',
  '192.0.2.1',
  '192.88.99.1',
  '192.168.0.1',
  '198.18.0.1',
  '198.51.100.1',
  '203.0.113.1',
  '224.0.0.1',
  '255.255.255.255',
];
/** Public, each next to a block or like one when read in the wrong base or order. */
const OUTSIDE = ['1.0.0.1', '9.255.255.255', '126.0.0.1', '128.0.0.1', '169.253.255.255', '172.32.0.1', '193.168.0.1'];

type Bytes = [number, number, number, number];
const bytesOf = (address: string) => address.split('.').map(Number) as Bytes;
const wide = (bytes: Bytes) => bytes.reduce((all, byte) => all * 256 + byte, 0);
const hex = (bytes: Bytes) => {
  const [a, b, c, d] = bytes;
  return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
};
const FULL_WIDTH = '０１２３４５６７８９';

/** Spellings that the URL parser reads as the address itself. */
const SPELLINGS: Record<string, (bytes: Bytes) => string> = {
  dotted: (bytes) => bytes.join('.'),
  'with a final dot': (bytes) => `${bytes.join('.')}.`,
  'one number': (bytes) => String(wide(bytes)),
  'one number in hex': (bytes) => `0x${wide(bytes).toString(16)}`,
  'one number in octal': (bytes) => `0${wide(bytes).toString(8)}`,
  'two numbers': ([a, ...rest]) => `${a}.${wide([0, ...rest])}`,
  'three numbers': ([a, b, c, d]) => `${a}.${b}.${c * 256 + d}`,
  'in hex': (bytes) => bytes.map((byte) => `0x${byte.toString(16)}`).join('.'),
  'in capital hex': (bytes) => bytes.map((byte) => `0X${byte.toString(16).toUpperCase()}`).join('.'),
  'in octal': (bytes) => bytes.map((byte) => `0${byte.toString(8)}`).join('.'),
  'with leading zeros in octal': (bytes) => bytes.map((byte) => `0000${byte.toString(8)}`).join('.'),
  'in mixed bases': ([a, b, c, d]) => `0x${a.toString(16)}.0${b.toString(8)}.${c * 256 + d}`,
  'percent-encoded': (bytes) => bytes.join('.').replaceAll(/./g, (char) => `%${char.charCodeAt(0).toString(16)}`),
  'in full-width digits': (bytes) => bytes.join('.').replaceAll(/\d/g, (digit) => FULL_WIDTH[Number(digit)]!),
  'with ideographic full stops': (bytes) => bytes.join('。'),
  'with full-width full stops': (bytes) => bytes.join('．'),
  'with a soft hyphen': (bytes) => `\u00AD${bytes.join('.\u00AD')}`,
  'with tabs and line breaks': (bytes) => bytes.join('.\t\r\n'),
};

/** IPv6 that hides it: refused whatever is hidden. */
const HIDINGS: Record<string, (bytes: Bytes) => string> = {
  mapped: (bytes) => `[::ffff:${bytes.join('.')}]`,
  'mapped, in hex': (bytes) => `[::ffff:${hex(bytes)}]`,
  'mapped, in full': (bytes) => `[0:0:0:0:0:FFFF:${hex(bytes).toUpperCase()}]`,
  compatible: (bytes) => `[::${bytes.join('.')}]`,
  translated: (bytes) => `[::ffff:0:${hex(bytes)}]`,
  NAT64: (bytes) => `[64:ff9b::${bytes.join('.')}]`,
  'local NAT64': (bytes) => `[64:ff9b:1::${hex(bytes)}]`,
  '6to4': (bytes) => `[2002:${hex(bytes)}::1]`,
  Teredo: (bytes) => `[2001::${hex(bytes.map((byte) => byte ^ 255) as Bytes)}]`,
  'Teredo server': (bytes) => `[2001:0:${hex(bytes)}::1]`,
  ISATAP: (bytes) => `[2600::5efe:${hex(bytes)}]`,
  'ISATAP, global': (bytes) => `[2600::200:5efe:${bytes.join('.')}]`,
};

function reasonOf(host: string): string {
  const verdict = judgeUrl(`https://${host}/`, OPEN);
  return verdict.ok ? 'ok' : verdict.reason;
}

test.each(Object.entries(SPELLINGS))('an address %s is judged like any other', (_, spell) => {
  for (const address of INSIDE) {
    const host = spell(bytesOf(address));
    expect([host, reasonOf(host)]).toEqual([host, 'address_forbidden']);
  }
  for (const address of OUTSIDE) {
    const host = spell(bytesOf(address));
    expect([host, reasonOf(host)]).toEqual([host, 'ok']);
  }
});

test.each(Object.entries(HIDINGS))('an address hidden in IPv6 (%s) is refused', (_, hide) => {
  for (const address of [...INSIDE, ...OUTSIDE]) {
    const host = hide(bytesOf(address));
    expect([host, reasonOf(host)]).toEqual([host, 'address_forbidden']);
  }
});

test.each([
  '256.0.0.1',
  '127.0.0.256',
  '1.2.3.4.5',
  '4294967296',
  '0x100000000',
  '08.0.0.1',
  '0x7g.1',
  '127.0.0.1%00',
  '127.0.0.1%0a.example.com',
  '127.0.0.1 .example.com',
  '[::1%25lo]',
  '[::ffff:127.0.0.1',
  '[::ffff:127.0.0.256]',
  '[127.0.0.1]',
  '[1:2]',
])('%s is no host', (host) => {
  expect(reasonOf(host)).toBe('malformed');
});
