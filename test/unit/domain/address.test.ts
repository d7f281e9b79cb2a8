import { describe, expect, test } from 'vitest';
import { judgeAddress, parseCidr, type Cidr } from '#domain/address.ts';

function cidrs(...texts: string[]): Cidr[] {
  return texts.map((text) => parseCidr(text) ?? expect.fail(`${text} is no CIDR`));
}

/** First and last address of each forbidden block, and the nearest neighbours outside it with what they are. */
const BLOCKS: ReadonlyArray<{ block: string; inside: string[]; outside: Array<[string, 'public' | 'forbidden']> }> = [
  { block: '0.0.0.0/8', inside: ['0.0.0.0', '0.255.255.255'], outside: [['1.0.0.0', 'public']] },
  {
    block: '10.0.0.0/8',
    inside: ['10.0.0.0', '10.255.255.255'],
    outside: [
      ['9.255.255.255', 'public'],
      ['11.0.0.0', 'public'],
    ],
  },
  {
    block: '100.64.0.0/10',
    inside: ['100.64.0.0', '100.100.100.200', '100.127.255.255'],
    outside: [
      ['100.63.255.255', 'public'],
      ['100.128.0.0', 'public'],
    ],
  },
  {
    block: '127.0.0.0/8',
    inside: ['127.0.0.0', '127.0.0.1', '127.255.255.255'],
    outside: [
      ['126.255.255.255', 'public'],
      ['128.0.0.0', 'public'],
    ],
  },
  {
    block: '168.63.129.16/32',
    inside: ['168.63.129.16'],
    outside: [
      ['168.63.129.15', 'public'],
      ['168.63.129.17', 'public'],
    ],
  },
  {
    block: '169.254.0.0/16',
    inside: ['169.254.0.0', '169.254.169.254', '169.254.255.255'],
    outside: [
      ['169.253.255.255', 'public'],
      ['169.255.0.0', 'public'],
    ],
  },
  {
    block: '172.16.0.0/12',
    inside: ['172.16.0.0', '172.31.255.255'],
    outside: [
      ['172.15.255.255', 'public'],
      ['172.32.0.0', 'public'],
    ],
  },
  {
    block: '192.0.0.0/24',
    inside: ['192.0.0.0', '192.0.0.192', '192.0.0.255'],
    outside: [
      ['191.255.255.255', 'public'],
      ['192.0.1.0', 'public'],
    ],
  },
  {
    block: '192.0.2.0/24',
    inside: ['192.0.2.0', '192.0.2.255'],
    outside: [
      ['192.0.1.255', 'public'],
      ['192.0.3.0', 'public'],
    ],
  },
  {
    block: '192.88.99.0/24',
    inside: ['192.88.99.0', '192.88.99.255'],
    outside: [
      ['192.88.98.255', 'public'],
      ['192.88.100.0', 'public'],
    ],
  },
  {
    block: '192.168.0.0/16',
    inside: ['192.168.0.0', '192.168.255.255'],
    outside: [
      ['192.167.255.255', 'public'],
      ['192.169.0.0', 'public'],
    ],
  },
  {
    block: '198.18.0.0/15',
    inside: ['198.18.0.0', '198.19.255.255'],
    outside: [
      ['198.17.255.255', 'public'],
      ['198.20.0.0', 'public'],
    ],
  },
  {
    block: '198.51.100.0/24',
    inside: ['198.51.100.0', '198.51.100.255'],
    outside: [
      ['198.51.99.255', 'public'],
      ['198.51.101.0', 'public'],
    ],
  },
  {
    block: '203.0.113.0/24',
    inside: ['203.0.113.0', '203.0.113.255'],
    outside: [
      ['203.0.112.255', 'public'],
      ['203.0.114.0', 'public'],
    ],
  },
  {
    block: '224.0.0.0/4',
    inside: ['224.0.0.0', '239.255.255.255'],
    outside: [['223.255.255.255', 'public']],
  },
  { block: '240.0.0.0/4', inside: ['240.0.0.0', '255.255.255.255'], outside: [] },
  { block: '::/128', inside: ['::', '0:0:0:0:0:0:0:0', '::0.0.0.0'], outside: [] },
  { block: '::1/128', inside: ['::1', '0:0:0:0:0:0:0:1', '0000:0000::0001', '::0.0.0.1'], outside: [] },
  {
    block: '::/96',
    inside: ['::2', '::7f00:1', '::127.0.0.1', '::8.8.8.8', '::ffff:ffff'],
    outside: [['::1:0:0', 'forbidden']],
  },
  {
    block: '::ffff:0:0/96',
    inside: [
      '::ffff:0:0',
      '::ffff:127.0.0.1',
      '::ffff:7f00:1',
      '::FFFF:7F00:1',
      '0:0:0:0:0:ffff:7f00:1',
      '::ffff:8.8.8.8',
      '::ffff:ffff:ffff',
    ],
    outside: [['::1:0:0:0', 'forbidden']],
  },
  {
    block: '::ffff:0:0:0/96',
    inside: ['::ffff:0:127.0.0.1', '::ffff:0:7f00:1', '::ffff:0:8.8.8.8'],
    outside: [['::ffff:1:0:0', 'forbidden']],
  },
  {
    block: '64:ff9b::/96',
    inside: ['64:ff9b::7f00:1', '64:ff9b::127.0.0.1', '64:ff9b::a9fe:a9fe', '64:ff9b::8.8.8.8'],
    outside: [['64:ff9b:0:0:0:1::', 'forbidden']],
  },
  {
    block: '64:ff9b:1::/48',
    inside: ['64:ff9b:1::', '64:ff9b:1::a00:1', '64:ff9b:1:ffff:ffff:ffff:ffff:ffff'],
    outside: [['64:ff9b:2::', 'forbidden']],
  },
  { block: '100::/64', inside: ['100::', '100::ffff:ffff:ffff:ffff'], outside: [['100:0:0:1::', 'forbidden']] },
  {
    block: '2001::/32',
    inside: ['2001::', '2001::7f00:1', '2001:0:4136:e378:8000:63bf:80ff:fffe', '2001:0:ffff:ffff:ffff:ffff:ffff:ffff'],
    outside: [['1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'forbidden']],
  },
  {
    block: '2001::/23',
    inside: ['2001:1::1', '2001:2::', '2001:10::', '2001:20::', '2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff'],
    outside: [['2001:200::', 'public']],
  },
  {
    block: '2001:db8::/32',
    inside: ['2001:db8::', '2001:db8:ffff:ffff:ffff:ffff:ffff:ffff'],
    outside: [
      ['2001:db7:ffff:ffff:ffff:ffff:ffff:ffff', 'public'],
      ['2001:db9::', 'public'],
    ],
  },
  {
    block: '2002::/16',
    inside: ['2002::', '2002:7f00:1::', '2002:a00:1::1', '2002:808:808::1', '2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff'],
    outside: [
      ['2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'public'],
      ['2003::', 'public'],
    ],
  },
  {
    block: '3fff::/20',
    inside: ['3fff::', '3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff'],
    outside: [
      ['3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'public'],
      ['3fff:1000::', 'public'],
    ],
  },
  {
    block: 'fc00::/7',
    inside: ['fc00::', 'fd00:ec2::254', 'fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'],
    outside: [
      ['fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'forbidden'],
      ['fe00::', 'forbidden'],
    ],
  },
  {
    block: 'fe80::/10',
    inside: ['fe80::', 'fe80::1', 'febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff'],
    outside: [['fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'forbidden']],
  },
  { block: 'fec0::/10', inside: ['fec0::', 'feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'], outside: [] },
  { block: 'ff00::/8', inside: ['ff00::', 'ff02::1', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'], outside: [] },
  {
    block: '2000::/3',
    inside: [],
    outside: [
      ['2000::', 'public'],
      ['2606:4700:4700::1111', 'public'],
      ['3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'public'],
      ['4000::', 'forbidden'],
      ['5f00::1', 'forbidden'],
    ],
  },
];

describe('an address in a special block', () => {
  const inside = BLOCKS.flatMap((row) => row.inside.map((address) => ({ address, block: row.block })));
  test.each(inside)('$address is forbidden as part of $block', ({ address, block }) => {
    const judged = judgeAddress(address, []);
    expect(judged).toMatchObject({ verdict: 'forbidden' });
    expect(judged.verdict === 'forbidden' && judged.range.split(' ')[0]).toBe(block);
  });

  const outside = BLOCKS.flatMap((row) => row.outside.map(([address, verdict]) => ({ address, verdict })));
  test.each(outside)('$address, just outside, is $verdict', ({ address, verdict }) => {
    expect(judgeAddress(address, []).verdict).toBe(verdict);
  });

  test.each([
    ['239.255.255.255', '224.0.0.0/4'],
    ['240.0.0.0', '240.0.0.0/4'],
    ['::2', '::/96'],
    ['::fffe:ffff:ffff', 'IPv6'],
    ['::1:0:0:0', 'IPv6'],
    ['::ffff:1:0:0', 'IPv6'],
    ['64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff', 'IPv6'],
    ['64:ff9b::1:0:0', 'IPv6'],
    ['64:ff9b:0:ffff:ffff:ffff:ffff:ffff', 'IPv6'],
    ['64:ff9b:2::', 'IPv6'],
    ['ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'IPv6'],
    ['100:0:0:1::', 'IPv6'],
    ['1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'IPv6'],
    ['2001:1::', '2001::/23'],
    ['2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff', '2001::/23'],
    ['4000::', 'IPv6'],
    ['fe00::', 'IPv6'],
    ['fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'IPv6'],
    ['febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'fe80::/10'],
    ['fec0::', 'fec0::/10'],
    ['feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'fec0::/10'],
    ['ff00::', 'ff00::/8'],
  ])('%s, at the edge of another one, is named after its own: %s', (address, block) => {
    const judged = judgeAddress(address, []);
    expect(judged.verdict === 'forbidden' && judged.range.split(' ')[0]).toBe(block);
  });

  test.each(['2600::5efe:7f00:1', '2600::200:5efe:10.0.0.1', '2600:1:2:3:0:5efe:808:808'])(
    'ISATAP %s is forbidden whatever it hides',
    (address) => {
      expect(judgeAddress(address, [])).toEqual({ verdict: 'forbidden', range: 'IPv4 inside IPv6 (ISATAP)' });
    },
  );

  test.each(['2600::5eff:7f00:1', '2600::400:5efe:7f00:1', '2600::1:0:5efe:7f00'])('%s is no ISATAP', (address) => {
    expect(judgeAddress(address, []).verdict).toBe('public');
  });
});

describe('text that is no plain address', () => {
  test.each([
    '',
    'localhost',
    'example.com',
    '127.1',
    '0x7f.0.0.1',
    '0177.0.0.1',
    '2130706433',
    '08.8.8.8',
    '8.8.8',
    '8.8.8.8.8',
    '8.8.8.256',
    '8.8.8.-1',
    ' 8.8.8.8',
    '8.8.8.8\n',
    '8.8.8.8/32',
    '٨.8.8.8',
    '[2606:4700::1]',
    'fe80::1%eth0',
    '2606:4700::1%1',
    '2606:4700::1::1',
    '2606:4700:::1',
    ':2606::1',
    '2606:4700:1:2:3:4:5',
    '2606:4700:1:2:3:4:5:6:7',
    '2606:4700:1:2:3:4:5:6::',
    '2606:12345::1',
    '2606:g::1',
    '1.2.3.4::',
    '2606::1.2.3.4:5',
    '2606::1.2.3',
    '2606::0x7f.0.0.1',
  ])('%j is forbidden, even when everything is allowed', (text) => {
    expect(judgeAddress(text, cidrs('0.0.0.0/0', '::/0')).verdict).toBe('forbidden');
  });
});

describe('an allowed range', () => {
  test.each([
    ['127.0.0.0/8', '127.0.0.1', 'allowed'],
    ['127.0.0.0/8', '128.0.0.0', 'public'],
    ['127.0.0.0/8', '10.0.0.1', 'forbidden'],
    ['127.0.0.0/8', '::1', 'forbidden'],
    ['127.0.0.0/8', '::ffff:127.0.0.1', 'allowed'],
    ['127.0.0.0/8', '::ffff:7f00:1', 'allowed'],
    ['127.0.0.0/8', '::ffff:a00:1', 'forbidden'],
    ['127.0.0.0/8', '::7f00:1', 'forbidden'],
    ['127.0.0.0/8', '64:ff9b::7f00:1', 'forbidden'],
    ['127.0.0.0/8', '2002:7f00:1::', 'forbidden'],
    ['10.1.2.3', '10.1.2.3', 'allowed'],
    ['10.1.2.3', '10.1.2.4', 'forbidden'],
    ['10.64.0.0/11', '10.95.255.255', 'allowed'],
    ['10.64.0.0/11', '10.96.0.0', 'forbidden'],
    ['::1', '::1', 'allowed'],
    ['::1', '::2', 'forbidden'],
    ['fd00:1::/33', 'fd00:1:7fff::1', 'allowed'],
    ['fd00:1::/33', 'fd00:1:8000::1', 'forbidden'],
    ['0.0.0.0/0', '169.254.169.254', 'allowed'],
    ['0.0.0.0/0', 'fd00::1', 'forbidden'],
    ['203.0.113.0/24', '203.0.113.9', 'allowed'],
    ['8.8.8.0/24', '8.8.8.8', 'allowed'],
  ])('%s makes %s %s', (range, address, verdict) => {
    expect(judgeAddress(address, cidrs(range)).verdict).toBe(verdict);
  });
});

describe('a CIDR', () => {
  test.each(['10.0.0.0/8', '0.0.0.0/0', '192.0.2.7', '192.0.2.7/32', '::/0', 'fd00::/8', '::1', 'fe80::/10'])(
    '%s is read',
    (text) => {
      expect(parseCidr(text)?.text).toBe(text);
    },
  );

  test.each([
    '',
    'loopback',
    '10.0.0.0/33',
    '10.0.0.0/-1',
    '10.0.0.0/08',
    '10.0.0.0/',
    '10.0.0.0/8/8',
    '10.0.0.0 /8',
    '10.0/8',
    '10.1.0.0/8',
    '10.0.0.1/31',
    'fd00::1/8',
    'fd00::/129',
    'fd00::%eth0/8',
    '[::1]',
    '*',
  ])('%j is refused', (text) => {
    expect(parseCidr(text)).toBeUndefined();
  });
});
