import { availableParallelism } from 'node:os';
import { existsSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { readConfig, VARIABLES } from '../../src/config.ts';
import { DEFAULT_DELIVERY_SCHEDULE } from '../../src/domain/retry.ts';

const KEY = 'ab'.repeat(32);
const OTHER_KEY = Buffer.alloc(32, 7).toString('base64');
const DATABASE = 'postgres://user:password@db:5432/ringback';
const GIVEN = { DATABASE_URL: DATABASE, RINGBACK_SECRET_KEY: KEY };

test('without any variable everything runs, embedded, for this machine alone', () => {
  const { egress, ...config } = readConfig({});
  expect(config).toEqual({
    port: 3000,
    host: '127.0.0.1',
    publicUrl: undefined,
    database: undefined,
    databaseConnections: 10,
    dataDir: '.ringback',
    roles: new Set(['api', 'runner', 'courier', 'keeper']),
    configFile: 'ringback.config.ts',
    bootstrapKey: undefined,
    secretKeys: undefined,
    egressWay: { proxy: undefined, localAddress: undefined },
    allowsLoopbackByDefault: true,
    diagnostics: true,
    callbackSchedule: DEFAULT_DELIVERY_SCHEDULE,
    callbackTimeoutMs: 15_000,
    runnerConcurrency: 100,
    runnerThreads: availableParallelism(),
    cancelGraceMs: 10_000,
    results: { inlineBytes: 65_536, maxBytes: 104_857_600 },
    accountLimits: { maxRunning: null, maxPending: null, submissionsPerSecond: null },
    maxQueued: 1_000_000,
    retentionDays: 30,
    recordRetentionDays: 400,
    courierConcurrency: 200,
    endpointConcurrency: 100,
    progressEveryMs: 5000,
    maxBodyBytes: 1_048_576,
    shutdownTimeoutMs: 10_000,
    logLevel: 'info',
    warnings: [],
  });
  expect({ ...egress, allow: egress.allow.map(({ text }) => text) }).toEqual({
    allow: ['127.0.0.0/8', '::1/128'],
    allowHttp: false,
    ports: [443, 8443],
  });
});

test('an empty variable counts as unset', () => {
  const empty = Object.fromEntries(VARIABLES.map((name) => [name, '']));
  expect(readConfig(empty)).toEqual(readConfig({}));
  expect(readConfig({ RINGBACK_TYPO: '' }).warnings).toEqual([]);
});

test('with a database of your own nothing private may be called back, and nothing is there for trying out', () => {
  const config = readConfig(GIVEN);
  expect(config.database).toEqual({ url: DATABASE, direct: DATABASE, pooled: false });
  expect(config.host).toBe('0.0.0.0');
  expect(config.egress.allow).toEqual([]);
  expect(config.allowsLoopbackByDefault).toBe(false);
  expect(config.diagnostics).toBe(false);
});

test('a direct URL means that the other one goes through a pool', () => {
  const direct = 'postgresql://user:password@primary:5432/ringback';
  const { database } = readConfig({ ...GIVEN, DATABASE_DIRECT_URL: direct });
  expect(database).toEqual({ url: DATABASE, direct, pooled: true });
});

test.each([
  ['PORT', '0', { port: 0 }],
  ['PORT', '65535', { port: 65_535 }],
  ['HOST', '::', { host: '::' }],
  ['RINGBACK_DATA_DIR', '/var/lib/ringback', { dataDir: '/var/lib/ringback' }],
  ['RINGBACK_ROLES', 'runner', { roles: new Set(['runner']) }],
  ['RINGBACK_ROLES', ' courier, api ,courier,', { roles: new Set(['courier', 'api']) }],
  ['RINGBACK_CONFIG', 'jobs.ts', { configFile: 'jobs.ts' }],
  ['RINGBACK_PUBLIC_URL', 'https://api.example.com', { publicUrl: 'https://api.example.com' }],
  ['RINGBACK_PUBLIC_URL', 'https://example.com/ringback//', { publicUrl: 'https://example.com/ringback' }],
  ['RINGBACK_BOOTSTRAP_KEY', 'rbk_12345678', { bootstrapKey: 'rbk_12345678' }],
  ['RINGBACK_DIAGNOSTICS', '0', { diagnostics: false }],
  ['RINGBACK_EGRESS_PROXY', 'http://egress:3128', { egressWay: { proxy: { host: 'egress', port: 3128 } } }],
  ['RINGBACK_EGRESS_SOURCE_ADDRESS', '192.0.2.7', { egressWay: { localAddress: '192.0.2.7' } }],
  ['RINGBACK_CALLBACK_SCHEDULE', '0s,250ms, 5s ,5m,2h,1d', { callbackSchedule: [0, 250, 5000, 3e5, 72e5, 864e5] }],
  ['RINGBACK_CALLBACK_TIMEOUT_MS', '100', { callbackTimeoutMs: 100 }],
  ['RINGBACK_RUNNER_CONCURRENCY', '1', { runnerConcurrency: 1 }],
  ['RINGBACK_COURIER_CONCURRENCY', '10000', { courierConcurrency: 10_000 }],
  ['RINGBACK_ENDPOINT_CONCURRENCY', '1', { endpointConcurrency: 1 }],
  ['RINGBACK_PROGRESS_EVERY_MS', '0', { progressEveryMs: 0 }],
  ['RINGBACK_MAX_BODY_BYTES', '1024', { maxBodyBytes: 1024 }],
  ['RINGBACK_DATABASE_CONNECTIONS', '2', { databaseConnections: 2 }],
  ['RINGBACK_SHUTDOWN_TIMEOUT_MS', '0', { shutdownTimeoutMs: 0 }],
  ['RINGBACK_LOG_LEVEL', 'silent', { logLevel: 'silent' }],
])('%s=%s is taken', (name, value, expected) => {
  expect(readConfig({ [name]: value })).toMatchObject(expected);
});

test.each([
  [{ RINGBACK_EGRESS_ALLOW: '10.0.0.0/8, fd00::/8' }, { allow: ['10.0.0.0/8', 'fd00::/8'], ports: [443, 8443] }],
  [{ RINGBACK_EGRESS_ALLOW: ',' }, { allow: [], ports: [443, 8443] }], // nothing private at all, embedded too
  [{ RINGBACK_EGRESS_ALLOW_HTTP: '1' }, { allowHttp: true, ports: [80, 443, 8443] }],
  [{ RINGBACK_EGRESS_ALLOW_HTTP: '0' }, { allowHttp: false, ports: [443, 8443] }],
  [{ RINGBACK_EGRESS_PORTS: '1,65535' }, { ports: [1, 65_535] }],
  [
    { RINGBACK_EGRESS_PORTS: '443', RINGBACK_EGRESS_ALLOW_HTTP: '1' },
    { allowHttp: true, ports: [443] },
  ],
])('%j decides what callbacks may reach', (env, expected) => {
  const { egress, allowsLoopbackByDefault } = readConfig(env);
  expect({ ...egress, allow: egress.allow.map(({ text }) => text) }).toMatchObject(expected);
  expect(allowsLoopbackByDefault).toBe(!('RINGBACK_EGRESS_ALLOW' in env));
});

test('several keys are read in their order, in any spelling', () => {
  const { secretKeys = [] } = readConfig({ RINGBACK_SECRET_KEY: `${OTHER_KEY}, ${KEY}` });
  expect(secretKeys.map(({ bytes }) => Buffer.from(bytes).toString('hex'))).toEqual(['07'.repeat(32), KEY]);
});

test.each([
  ['RINGBACK_PUBLIC_ULR', 'RINGBACK_PUBLIC_URL'],
  ['RINGBACK_ROLE', 'RINGBACK_ROLES'],
  ['RINGBACK_EGRES_ALLOW', 'RINGBACK_EGRESS_ALLOW'],
  ['RINGBACK_RUNNER_CONCURENCY', 'RINGBACK_RUNNER_CONCURRENCY'],
  ['RINGBACK_SECRET_KEYS', 'RINGBACK_SECRET_KEY'],
])('the misspelt %s is warned of, with %s as what was meant, and its value is kept out', (name, meant) => {
  const { warnings } = readConfig({ [name]: 'hunter2' });
  expect(warnings).toEqual([`${name}: there is no such variable; did you mean ${meant}?`]);
});

test('variables of other programs are none of our business', () => {
  expect(readConfig({ PATH: '/bin', DATABASE: 'x', ringback_roles: 'x', PGHOST: 'x' }).warnings).toEqual([]);
});

const ENV_EXAMPLE = new URL('../../.env.example', import.meta.url);

test('.env.example documents every variable once, and no other', () => {
  expect(existsSync(ENV_EXAMPLE), '.env.example is missing').toBe(true);
  const lines = readFileSync(ENV_EXAMPLE, 'utf8').split('\n');
  const documented = lines.flatMap((line) => /^#? ?([A-Z][A-Z0-9_]*)=/.exec(line)?.[1] ?? []);
  expect(documented.toSorted()).toEqual(VARIABLES.toSorted());
});
