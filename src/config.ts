import { isIP } from 'node:net';
import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { CIDR_FORM, parseCidr } from '#domain/address.ts';
import { isApiKey } from '#domain/api-key.ts';
import { parseProxyUrl, PROXY_URL_FORM } from '#domain/egress-proxy.ts';
import { nearestNames } from '#domain/nearest.ts';
import { DEFAULT_DELIVERY_SCHEDULE } from '#domain/retry.ts';
import { parseSecretKey } from '#domain/secret-box.ts';

const ROLES = ['api', 'runner', 'courier', 'keeper'] as const;
type Role = (typeof ROLES)[number];

const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
const LOOPBACK = ['127.0.0.0/8', '::1/128'];
const MAX_DELAY_MS = 365 * 86_400_000;
const DURATION_MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** A whole number written as such. */
function whole(least: number, most: number) {
  const should = `should be a whole number from ${least} to ${most}`;
  return z
    .string()
    .regex(/^\d{1,12}$/, should)
    .transform(Number)
    .refine((value) => value >= least && value <= most, should);
}

/** `parse` answers undefined for what it does not understand. */
function one<T>(parse: (text: string) => T | undefined, should: string) {
  return z.string().transform((text, context) => {
    const parsed = parse(text.trim());
    if (parsed === undefined) context.addIssue({ code: 'custom', message: `should be ${should}` });
    return parsed;
  });
}

/** A comma-separated list; `parse` answers undefined for what it does not understand. */
function list<T>(parse: (item: string) => T | undefined, should: string) {
  return z.string().transform((text, context) => {
    const items = text.split(',').map((item) => item.trim());
    const parsed = items.filter((item) => item !== '').map(parse);
    if (parsed.includes(undefined)) context.addIssue({ code: 'custom', message: `should be ${should}` });
    return parsed.filter((item) => item !== undefined);
  });
}

const flag = z.enum(['0', '1'], 'should be 0 or 1').transform((value) => value === '1');
/** Several hosts, of which the primary is taken, are no URL by the letter. */
const postgresUrl = z.string().refine((text) => {
  const url = URL.parse(text.replace(/^([^/]*\/\/[^/?,]*)(?:,[^/?,]+)+/, '$1'));
  return url !== null && /^postgres(?:ql)?:$/.test(url.protocol);
}, 'should be postgres://user:password@host:port/database');

function parseDuration(text: string): number | undefined {
  const match = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text);
  if (match === null) return undefined;
  const ms = Number(match[1]) * DURATION_MS[match[2] as keyof typeof DURATION_MS];
  return ms <= MAX_DELAY_MS ? ms : undefined;
}

const environment = z.object({
  PORT: whole(0, 65_535).default(3000),
  HOST: z.string().min(1).optional(),
  DATABASE_URL: postgresUrl.optional(),
  DATABASE_DIRECT_URL: postgresUrl.optional(),
  RINGBACK_DATA_DIR: z.string().min(1).default('.ringback'),
  RINGBACK_ROLES: list((item) => ROLES.find((role) => role === item), `a comma-separated list of ${ROLES.join(', ')}`)
    .refine((roles) => roles.length > 0, `should name at least one of ${ROLES.join(', ')}`)
    .default([...ROLES]),
  RINGBACK_CONFIG: z.string().min(1).default('ringback.config.ts'),
  RINGBACK_PUBLIC_URL: z
    .url({ protocol: /^https?$/, error: 'should be the http(s) URL under which clients reach the API' })
    .refine((url) => !/[?#]/.test(url), 'should be the http(s) URL under which clients reach the API')
    .optional(),
  RINGBACK_BOOTSTRAP_KEY: z.string().refine(isApiKey, 'should be rbk_ and 8 to 200 letters, digits, - or _').optional(),
  RINGBACK_SECRET_KEY: list(
    parseSecretKey,
    '32 bytes in base64 or hex; several, separated by commas, the first encrypts',
  )
    .refine((keys) => keys.length > 0, 'should hold at least one key; make one with: openssl rand -base64 32')
    .optional(),
  RINGBACK_EGRESS_ALLOW: list(parseCidr, `a comma-separated list, each ${CIDR_FORM}`).optional(),
  RINGBACK_EGRESS_ALLOW_HTTP: flag.default(false),
  RINGBACK_EGRESS_PORTS: list(
    (item) => (/^\d{1,5}$/.test(item) && Number(item) >= 1 && Number(item) <= 65_535 ? Number(item) : undefined),
    'a comma-separated list of ports',
  ).optional(),
  RINGBACK_EGRESS_PROXY: one(parseProxyUrl, PROXY_URL_FORM).optional(),
  RINGBACK_EGRESS_SOURCE_ADDRESS: one(
    (text) => (isIP(text) === 0 || text.includes('%') ? undefined : text),
    'an IP address of this machine',
  ).optional(),
  RINGBACK_DIAGNOSTICS: flag.optional(),
  RINGBACK_CALLBACK_SCHEDULE: list(parseDuration, 'a comma-separated list of durations such as 0s,5s,5m,2h')
    .refine((delays) => delays.length <= 50 && delays[0] === 0, 'should have 1 to 50 durations, the first of them 0s')
    .default([...DEFAULT_DELIVERY_SCHEDULE]),
  RINGBACK_CALLBACK_TIMEOUT_MS: whole(100, 120_000).default(15_000),
  RINGBACK_RUNNER_CONCURRENCY: whole(1, 10_000).default(100),
  RINGBACK_RUNNER_THREADS: whole(1, 1000).default(availableParallelism()),
  RINGBACK_CANCEL_GRACE_MS: whole(0, 3_600_000).default(10_000),
  RINGBACK_INLINE_RESULT_BYTES: whole(0, 1_048_576).default(65_536),
  RINGBACK_MAX_RESULT_BYTES: whole(1024, 1_073_741_824).default(104_857_600),
  RINGBACK_ACCOUNT_MAX_RUNNING: whole(1, 1_000_000).optional(),
  RINGBACK_ACCOUNT_MAX_PENDING: whole(1, 100_000_000).optional(),
  RINGBACK_ACCOUNT_SUBMISSIONS_PER_SECOND: whole(1, 1_000_000).optional(),
  RINGBACK_MAX_QUEUED: whole(1, 1_000_000_000).default(1_000_000),
  RINGBACK_RETENTION_DAYS: whole(1, 36_500).default(30),
  RINGBACK_RECORD_RETENTION_DAYS: whole(1, 36_500).default(400),
  RINGBACK_COURIER_CONCURRENCY: whole(1, 10_000).default(200),
  RINGBACK_ENDPOINT_CONCURRENCY: whole(1, 10_000).default(100),
  RINGBACK_PROGRESS_EVERY_MS: whole(0, 3_600_000).default(5000),
  RINGBACK_MAX_BODY_BYTES: whole(1024, 104_857_600).default(1_048_576),
  RINGBACK_DATABASE_CONNECTIONS: whole(2, 200).default(10),
  RINGBACK_SHUTDOWN_TIMEOUT_MS: whole(0, 600_000).default(10_000),
  RINGBACK_LOG_LEVEL: z.enum(LOG_LEVELS, `should be one of ${LOG_LEVELS.join(', ')}`).default('info'),
});

export const VARIABLES: readonly string[] = Object.keys(environment.shape);

/** Everything that is wrong with the environment, a line each. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly faults: readonly string[];

  constructor(faults: readonly string[]) {
    super(
      `the configuration has ${faults.length === 1 ? 'a fault' : `${faults.length} faults`}:\n  ${faults.join('\n  ')}`,
    );
    this.faults = faults;
  }
}

/**
 * Reads the environment; the only place that does. An empty variable counts as unset.
 * @throws ConfigError with every fault at once
 */
export function readConfig(env: Readonly<Record<string, string | undefined>>) {
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value !== ''));
  const parsed = environment.safeParse(given);
  const faults = (parsed.error?.issues ?? []).map(({ path, message }) => `${String(path[0])}: ${message}`);
  if (given['DATABASE_URL'] !== undefined && given['RINGBACK_SECRET_KEY'] === undefined) {
    faults.push('RINGBACK_SECRET_KEY: should be set when DATABASE_URL is; make one with: openssl rand -base64 32');
  }
  if (given['DATABASE_URL'] === undefined && given['DATABASE_DIRECT_URL'] !== undefined) {
    faults.push('DATABASE_DIRECT_URL: should be unset when DATABASE_URL is');
  }
  if (faults.length > 0 || !parsed.success) throw new ConfigError([...new Set(faults)]);
  const warnings = Object.keys(given).filter(isMisspelt).map(describeMisspelt);
  return { ...fromVariables(parsed.data), warnings };
}

export type Config = ReturnType<typeof readConfig>;

function fromVariables(env: z.output<typeof environment>) {
  const embedded = env.DATABASE_URL === undefined;
  const allow = env.RINGBACK_EGRESS_ALLOW ?? (embedded ? LOOPBACK.map((cidr) => parseCidr(cidr)!) : []);
  return {
    port: env.PORT,
    // Embedded is for trying out: nobody else needs to reach it.
    host: env.HOST ?? (embedded ? '127.0.0.1' : '0.0.0.0'),
    publicUrl: env.RINGBACK_PUBLIC_URL?.replace(/\/+$/, ''),
    /** Undefined: embedded. `direct` is session-pinned, for LISTEN and migrations. */
    database:
      env.DATABASE_URL === undefined
        ? undefined
        : {
            url: env.DATABASE_URL,
            direct: env.DATABASE_DIRECT_URL ?? env.DATABASE_URL,
            pooled: env.DATABASE_DIRECT_URL !== undefined,
          },
    databaseConnections: env.RINGBACK_DATABASE_CONNECTIONS,
    dataDir: env.RINGBACK_DATA_DIR,
    roles: new Set<Role>(env.RINGBACK_ROLES),
    configFile: env.RINGBACK_CONFIG,
    bootstrapKey: env.RINGBACK_BOOTSTRAP_KEY,
    secretKeys: env.RINGBACK_SECRET_KEY,
    egress: {
      allow,
      allowHttp: env.RINGBACK_EGRESS_ALLOW_HTTP,
      ports: env.RINGBACK_EGRESS_PORTS ?? (env.RINGBACK_EGRESS_ALLOW_HTTP ? [80, 443, 8443] : [443, 8443]),
    },
    /** How callbacks leave this machine. */
    egressWay: { proxy: env.RINGBACK_EGRESS_PROXY, localAddress: env.RINGBACK_EGRESS_SOURCE_ADDRESS },
    allowsLoopbackByDefault: embedded && env.RINGBACK_EGRESS_ALLOW === undefined,
    diagnostics: env.RINGBACK_DIAGNOSTICS ?? embedded,
    callbackSchedule: env.RINGBACK_CALLBACK_SCHEDULE,
    callbackTimeoutMs: env.RINGBACK_CALLBACK_TIMEOUT_MS,
    runnerConcurrency: env.RINGBACK_RUNNER_CONCURRENCY,
    runnerThreads: env.RINGBACK_RUNNER_THREADS,
    cancelGraceMs: env.RINGBACK_CANCEL_GRACE_MS,
    results: { inlineBytes: env.RINGBACK_INLINE_RESULT_BYTES, maxBytes: env.RINGBACK_MAX_RESULT_BYTES },
    /** For accounts whose row says nothing else; null for no limit. */
    accountLimits: {
      maxRunning: env.RINGBACK_ACCOUNT_MAX_RUNNING ?? null,
      maxPending: env.RINGBACK_ACCOUNT_MAX_PENDING ?? null,
      submissionsPerSecond: env.RINGBACK_ACCOUNT_SUBMISSIONS_PER_SECOND ?? null,
    },
    /** Jobs that have not ended, of all accounts: beyond, submissions are refused for the time being. */
    maxQueued: env.RINGBACK_MAX_QUEUED,
    retentionDays: env.RINGBACK_RETENTION_DAYS,
    recordRetentionDays: env.RINGBACK_RECORD_RETENTION_DAYS,
    courierConcurrency: env.RINGBACK_COURIER_CONCURRENCY,
    endpointConcurrency: env.RINGBACK_ENDPOINT_CONCURRENCY,
    progressEveryMs: env.RINGBACK_PROGRESS_EVERY_MS,
    maxBodyBytes: env.RINGBACK_MAX_BODY_BYTES,
    shutdownTimeoutMs: env.RINGBACK_SHUTDOWN_TIMEOUT_MS,
    logLevel: env.RINGBACK_LOG_LEVEL,
  };
}

/** No fault: an older version must still start with the variables of a newer one. */
function isMisspelt(name: string): boolean {
  return name.startsWith('RINGBACK_') && !VARIABLES.includes(name);
}

function describeMisspelt(name: string): string {
  const [near] = nearestNames(name, VARIABLES, 1);
  return `${name}: there is no such variable${near === undefined ? '' : `; did you mean ${near}?`}`;
}
