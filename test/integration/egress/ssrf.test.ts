import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import http from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { parseCidr } from '#domain/address.ts';
import type { EgressPolicy } from '#domain/callback-url.ts';
import { createGuard } from '#egress/guard.ts';
import { startNameServer, type Zone } from './name-server.ts';
import { ALLOW_NOTHING, makeSender, request } from './receivers.ts';

/** Each block that nothing may reach, by an address in it that somebody would love to reach, and IPv4 in disguise. */
const HOSTILE = [
  '0.0.0.0',
  '10.0.0.1',
  '100.100.100.200', // Alibaba's metadata
  '127.0.0.1',
  '127.255.255.254',
  '168.63.129.16', // Azure's platform
  '169.254.169.254', // the metadata of nearly everybody
  '172.16.0.1',
  '172.31.255.255',
  '192.0.0.192', // Oracle's metadata
  '192.0.2.1',
  '192.88.99.1',
  '192.168.0.1',
  '198.18.0.1',
  '198.51.100.1',
  '203.0.113.1',
  '224.0.0.1',
  '240.0.0.1',
  '255.255.255.255',
  '::',
  '::1',
  '::7f00:1',
  '::ffff:127.0.0.1',
  '::ffff:a9fe:a9fe',
  '::ffff:0:7f00:1',
  '64:ff9b::7f00:1',
  '64:ff9b:1::7f00:1',
  '100::1',
  '2001::7f00:1',
  '2001:db8::1',
  '2002:7f00:1::',
  '2600::5efe:7f00:1',
  '3fff::1',
  '4000::1',
  'fc00::1',
  'fd00:ec2::254', // Amazon's metadata
  'fe80::1',
  'fec0::1',
  'ff02::1',
];
const PUBLIC = ['1.1.1.1', '2606:4700:4700::1111'];

/** Listens on every address of this machine; counts who connects, by the address that was called. */
async function listenEverywhere() {
  const called: string[] = [];
  const server = http.createServer((_, response) => response.writeHead(200, { connection: 'close' }).end());
  server.on('connection', (socket: Socket) => called.push(socket.localAddress!.replace('::ffff:', '')));
  const { promise: listening, resolve } = Promise.withResolvers<void>();
  server.once('error', () => server.listen(0, '0.0.0.0', resolve)); // a machine without IPv6
  server.listen(0, '::', resolve);
  await listening;
  onTestFinished(() => void server.close());
  return { port: (server.address() as AddressInfo).port, called };
}

/** How many TCP sockets this process has made since. */
function countSockets(): () => number {
  let count = 0;
  const onSocket = () => void count++;
  subscribe('net.client.socket', onSocket);
  onTestFinished(() => void unsubscribe('net.client.socket', onSocket));
  return () => count;
}

async function start(zone: Zone, changes: Partial<EgressPolicy> = {}) {
  const names = await startNameServer(zone);
  const receiver = await listenEverywhere();
  // As open as the guard can be made: nothing but the address is left to refuse.
  const policy = { ...ALLOW_NOTHING, allowHttp: true, ports: [receiver.port], ...changes };
  const guard = createGuard({ policy, resolve: names.resolve });
  const sender = makeSender({ policy, resolve: names.resolve });
  const url = (host: string) => `http://${host}:${receiver.port}/latest/meta-data`;
  return {
    ...receiver,
    names,
    url,
    register: async (host: string) => {
      const verdict = await guard.checkUrl(url(host));
      return verdict.ok ? 'ok' : verdict.reason;
    },
    send: (host: string) => sender.send(request(url(host), { timeoutMs: 2000 })),
  };
}

describe.each(HOSTILE)('%s', (address) => {
  const zone: Zone = {
    'alone.test': () => [address],
    'first.test': () => [address, ...PUBLIC],
    'last.test': () => [...PUBLIC, address],
    'crowd.test': () => [...Array.from({ length: 12 }, (_, index) => `1.1.1.${index}`), ...PUBLIC, address],
    'alias.test': () => ['alias:internal.test', address],
    'rebound.test': (nth) => (nth === 0 ? PUBLIC : [address]),
  };
  const literal = address.includes(':') ? `[${address}]` : address;

  test('is refused at registration and again at send, whatever leads there, and no socket is made', async () => {
    const { register, send, called, names } = await start(zone);
    const sockets = countSockets();
    for (const host of [literal, 'alone.test', 'first.test', 'last.test', 'crowd.test', 'alias.test']) {
      expect([host, await register(host)]).toEqual([host, 'address_forbidden']);
      const result = await send(host);
      expect(result).toMatchObject({ outcome: 'blocked', errorCode: 'address_forbidden', remoteAddress: null });
    }
    expect(names.questions.length).toBe(5 * 2 * 2); // five names, registered and sent to, A and AAAA
    expect([sockets(), called]).toEqual([0, []]);
  });

  test('is refused at send when its name was public at registration', async () => {
    const { register, send, called, names } = await start(zone);
    const sockets = countSockets();
    expect(await register('rebound.test')).toBe('ok');
    expect(await send('rebound.test')).toMatchObject({ outcome: 'blocked', errorCode: 'address_forbidden' });
    expect(names.questions.toSorted()).toEqual(['A', 'A', 'AAAA', 'AAAA'].map((type) => `${type} rebound.test`));
    expect([sockets(), called]).toEqual([0, []]);
  });
});

describe('a name that changes between resolutions', () => {
  /** 127.0.0.1 stands for a public address, 127.0.0.2 for one that is not: both of them answer. */
  const changes = { allow: [parseCidr('127.0.0.1')!] };

  test('is asked for once per connection, and the connection goes to what was judged', async () => {
    const zone: Zone = { 'flip.test': (nth) => [nth % 2 === 0 ? '127.0.0.1' : '127.0.0.2'] };
    const { send, called, names } = await start(zone, changes);
    const outcomes: Array<string | null> = [];
    for (let index = 0; index < 6; index++) outcomes.push((await send('flip.test')).errorCode);
    const once = [null, 'address_forbidden'];
    expect(outcomes).toEqual([...once, ...once, ...once]);
    expect(called).toEqual(Array(3).fill('127.0.0.1'));
    expect(names.questions.filter((question) => question === 'A flip.test')).toHaveLength(6);
  });

  test('cannot be raced: of 50 at once none reaches the other address', async () => {
    const zone: Zone = { 'race.test': (nth) => (nth % 3 === 0 ? ['127.0.0.1'] : ['127.0.0.1', '127.0.0.2']) };
    const { send, called } = await start(zone, changes);
    const results = await Promise.all(Array.from({ length: 50 }, () => send('race.test')));
    expect(new Set(results.map(({ errorCode }) => errorCode))).toEqual(new Set([null, 'address_forbidden']));
    expect(new Set(called)).toEqual(new Set(['127.0.0.1']));
    expect(called).toHaveLength(results.filter(({ outcome }) => outcome === 'delivered').length);
  });

  test('is refused whichever of its records is the bad one', async () => {
    const zone: Zone = { 'both.test': () => ['127.0.0.1', '::1'] };
    const { send, register, called } = await start(zone, changes);
    expect(await register('both.test')).toBe('address_forbidden');
    expect((await send('both.test')).errorCode).toBe('address_forbidden');
    expect(called).toEqual([]);
  });
});

test.each([
  ['does not exist', 'NXDOMAIN', 'dns', 'dns_not_found'],
  ['has no address', [], 'dns', 'dns_not_found'],
  ['has a server that fails', 'SERVFAIL', 'dns', 'dns_failed'],
  ['has a server that says nothing', 'silence', 'timeout', 'dns_timeout'],
] as const)('a name that %s may be registered, and nothing is sent', async (_, answer, outcome, errorCode) => {
  const { register, send, called } = await start({ 'bad.test': () => answer });
  const sockets = countSockets();
  expect(await register('bad.test')).toBe('ok');
  expect(await send('bad.test')).toMatchObject({ outcome, errorCode });
  expect([sockets(), called]).toEqual([0, []]);
});
