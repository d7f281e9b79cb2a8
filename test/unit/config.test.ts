import { expect, test } from 'vitest';
import { ConfigError, readConfig, VARIABLES } from '../../src/config.ts';

const KEY = 'ab'.repeat(32);
const DATABASE = 'postgres://user:password@db:5432/ringback';

function faultsOf(env: Record<string, string | undefined>): readonly string[] {
  try {
    readConfig(env);
  } catch (error) {
    if (error instanceof ConfigError) return error.faults;
    throw error;
  }
  return [];
}

function namesIn(faults: readonly string[]): string[] {
  return faults.map((fault) => fault.slice(0, fault.indexOf(':'))).toSorted();
}

const PORT = 'should be a whole number from 0 to 65535';
const URL_FORM = 'should be postgres://user:password@host:port/database';
const ROLES = 'should be a comma-separated list of api, runner, courier, keeper';
const KEYS = 'should be 32 bytes in base64 or hex; several, separated by commas, the first encrypts';
const API_KEY = 'should be rbk_ and 8 to 200 letters, digits, - or _';
const CIDRS =
  'should be a comma-separated list, each an address or CIDR range such as 10.0.0.0/8, fd00::/8 or 192.0.2.7, with no bits set after the prefix';
const PORTS = 'should be a comma-separated list of ports';
const PROXY =
  'should be http://, https:// or socks5://, then host:port with user:password@ before it if need be, and nothing after it';
const FLAG = 'should be 0 or 1';
const SCHEDULE = 'should be a comma-separated list of durations such as 0s,5s,5m,2h';
const LEVEL = 'should be one of fatal, error, warn, info, debug, trace, silent';
const PUBLIC_URL = 'should be the http(s) URL under which clients reach the API';

test.each([
  ['PORT', ['-1', '65536', '3000.5', '0x50', '1e3', ' 3000', '３０００', 'http', '1'.repeat(400)], PORT],
  ['DATABASE_URL', ['mysql://h/d', 'localhost:5432', 'db', '://', 'postgres'], URL_FORM],
  ['RINGBACK_ROLES', ['worker', 'api,worker', 'API', 'api;runner', 'api runner'], ROLES],
  ['RINGBACK_ROLES', [',', ' , '], 'should name at least one of api, runner, courier, keeper'],
  ['RINGBACK_PUBLIC_URL', ['api.example.com', 'ftp://example.com', 'https://', '/v1'], PUBLIC_URL],
  ['RINGBACK_BOOTSTRAP_KEY', ['rbk_short', 'secret-123456', 'rbk_12345678 ', 'rbk_1234 5678'], API_KEY],
  ['RINGBACK_SECRET_KEY', ['secret', `${KEY}ab`, KEY.slice(1), `${KEY},secret`], KEYS],
  ['RINGBACK_SECRET_KEY', [',', ' '], 'should hold at least one key; make one with: openssl rand -base64 32'],
  ['RINGBACK_EGRESS_ALLOW', ['10.0.0.0/33', '10.1.0.0/8', 'localhost', '10.0.0.0/8;fd00::/8', 'all'], CIDRS],
  ['RINGBACK_EGRESS_ALLOW_HTTP', ['true', 'yes', '2', '01'], FLAG],
  ['RINGBACK_EGRESS_PORTS', ['0', '65536', '443-8443', 'https', '443,x'], PORTS],
  ['RINGBACK_EGRESS_PROXY', ['egress:3128', 'ftp://egress', 'http://egress/path', 'socks4://egress'], PROXY],
  ['RINGBACK_EGRESS_SOURCE_ADDRESS', ['eth0', '10.0.0.0/8', 'fe80::1%eth0'], 'should be an IP address of this machine'],
  ['RINGBACK_DIAGNOSTICS', ['true', 'on', ' 1'], FLAG],
  ['RINGBACK_CALLBACK_SCHEDULE', ['5', '5 s', '-5s', '1.5h', '5s,x', '1w', '5S'], SCHEDULE],
  [
    'RINGBACK_CALLBACK_SCHEDULE',
    [',', Array(51).fill('1s').join()],
    'should have 1 to 50 durations, the first of them 0s',
  ],
  ['RINGBACK_CALLBACK_TIMEOUT_MS', ['99', '120001', '15s'], 'should be a whole number from 100 to 120000'],
  ['RINGBACK_RUNNER_CONCURRENCY', ['0', '10001', 'many'], 'should be a whole number from 1 to 10000'],
  ['RINGBACK_RETENTION_DAYS', ['0', '36501', '30d'], 'should be a whole number from 1 to 36500'],
  ['RINGBACK_RECORD_RETENTION_DAYS', ['0', '36501', '1y'], 'should be a whole number from 1 to 36500'],
  ['RINGBACK_COURIER_CONCURRENCY', ['0', '10001'], 'should be a whole number from 1 to 10000'],
  ['RINGBACK_ENDPOINT_CONCURRENCY', ['0', '10001'], 'should be a whole number from 1 to 10000'],
  ['RINGBACK_PROGRESS_EVERY_MS', ['-1', '3600001'], 'should be a whole number from 0 to 3600000'],
  ['RINGBACK_MAX_BODY_BYTES', ['1023', '104857601', '1MB'], 'should be a whole number from 1024 to 104857600'],
  ['RINGBACK_DATABASE_CONNECTIONS', ['1', '201'], 'should be a whole number from 2 to 200'],
  ['RINGBACK_SHUTDOWN_TIMEOUT_MS', ['-1', '600001'], 'should be a whole number from 0 to 600000'],
  ['RINGBACK_LOG_LEVEL', ['verbose', 'INFO', '30'], LEVEL],
])('%s: each of %j is refused', (name, values, should) => {
  // With a database given, its own rules are out of the way.
  const given = { DATABASE_URL: DATABASE, RINGBACK_SECRET_KEY: KEY };
  const faults = values.map((value) => faultsOf({ ...given, [name]: value }));
  expect(faults).toEqual(values.map(() => [`${name}: ${should}`]));
});

test.each(['https://example.com/?tenant=1', 'https://example.com/#top'])(
  'a public URL that no path can be added to is refused: %s',
  (url) => {
    expect(faultsOf({ RINGBACK_PUBLIC_URL: url })).toEqual([`RINGBACK_PUBLIC_URL: ${PUBLIC_URL}`]);
  },
);

test.each(['999999999d', '5s,100000000d'])('a delay beyond what dates can hold is refused: %s', (text) => {
  expect(faultsOf({ RINGBACK_CALLBACK_SCHEDULE: text })).toHaveLength(1);
});

test('all faults are told at once, a line each', () => {
  const faults = faultsOf({ PORT: 'x', RINGBACK_ROLES: 'x', RINGBACK_LOG_LEVEL: 'x', RINGBACK_SECRET_KEY: 'x' });
  const names = ['PORT', 'RINGBACK_LOG_LEVEL', 'RINGBACK_ROLES', 'RINGBACK_SECRET_KEY'];
  expect(namesIn(faults)).toEqual(names);
  const { message } = new ConfigError(faults);
  expect(message.split('\n')).toHaveLength(1 + faults.length);
  expect(message).toContain('the configuration has 4 faults:\n  PORT: should be');
  expect(new ConfigError(['PORT: no']).message).toBe('the configuration has a fault:\n  PORT: no');
});

test('every variable at fault is told of, whichever others are', () => {
  const unfit = VARIABLES.filter((name) => !['HOST', 'RINGBACK_DATA_DIR', 'RINGBACK_CONFIG'].includes(name));
  const faults = faultsOf(Object.fromEntries(unfit.map((name) => [name, '!'])));
  expect(namesIn(faults)).toEqual(unfit.toSorted());
});

test('no fault repeats a value: most are secrets, and this goes to the log', () => {
  const names = ['DATABASE_URL', 'DATABASE_DIRECT_URL', 'RINGBACK_SECRET_KEY', 'RINGBACK_BOOTSTRAP_KEY', 'PORT'];
  const faults = faultsOf(Object.fromEntries(names.map((name) => [name, 'hunter2'])));
  expect(faults.length).toBeGreaterThanOrEqual(names.length);
  expect(faults.join('\n')).not.toContain('hunter2');
});

test('a database of your own needs a key of your own', () => {
  expect(faultsOf({ DATABASE_URL: DATABASE })).toEqual([
    'RINGBACK_SECRET_KEY: should be set when DATABASE_URL is; make one with: openssl rand -base64 32',
  ]);
  expect(faultsOf({ DATABASE_URL: DATABASE, RINGBACK_SECRET_KEY: KEY })).toEqual([]);
});

test('a direct URL alone is a slip: embedded, there is nothing to connect to', () => {
  expect(faultsOf({ DATABASE_DIRECT_URL: DATABASE })).toEqual([
    'DATABASE_DIRECT_URL: should be unset when DATABASE_URL is',
  ]);
});

test('a missing key is told of together with the other faults', () => {
  const faults = faultsOf({ DATABASE_URL: DATABASE, PORT: 'x' });
  expect(faults).toHaveLength(2);
  expect(faults.join('\n')).toMatch(/^PORT: .*\nRINGBACK_SECRET_KEY: /);
});
