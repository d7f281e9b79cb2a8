import { judgeUrl } from '#domain/callback-url.ts';
import { ANYWHERE } from '#egress/anywhere.ts';
import { CONNECTION_HEADERS } from '#domain/connection-headers.ts';
import type { AnyJobDefinition, StandardSchema } from './define.ts';

const TYPE_FORM = /^[a-z][a-z0-9_-]*(?:\.[a-z0-9_-]+)*$/;
const MAX_TYPE_LENGTH = 100;
const DAY_MS = 86_400_000;

/** What makes a definition useless, in words for the person who wrote it; undefined when nothing does. */
export function faultOf(definition: AnyJobDefinition, known: ReadonlyMap<string, unknown>): string | undefined {
  if (typeof definition !== 'object' || definition === null) return 'is not an object; make it with defineJob()';
  const { type, input, output, timeoutMs = 1, concurrency = 1, maxInputBytes = 1 } = definition;
  if (typeof type !== 'string' || !TYPE_FORM.test(type) || type.length > MAX_TYPE_LENGTH)
    return `type must look like "csv.profile" (${TYPE_FORM.source}) and have ${MAX_TYPE_LENGTH} characters at most`;
  if (known.has(type)) return 'another job type has the same name';
  if (!isSchema(input)) return 'input must be a Standard Schema, for example a zod 4 object';
  if (output !== undefined && !isSchema(output)) return 'output must be a Standard Schema, or be left out';
  if (!isWhole(timeoutMs, 1, DAY_MS)) return `timeoutMs must be a whole number from 1 to ${DAY_MS}`;
  if (!isWhole(concurrency, 1, 100_000)) return 'concurrency must be a whole number from 1 to 100000';
  if (!isWhole(maxInputBytes, 1, 104_857_600)) return 'maxInputBytes must be a whole number from 1 to 104857600';
  return faultOfWay(definition) ?? faultOfRetry(definition.retry);
}

function faultOfWay({ run, isolation, backend, remote }: AnyJobDefinition): string | undefined {
  if ([run, backend, remote].filter((way) => way !== undefined).length !== 1)
    return 'needs exactly one of run (a function), backend ({ url }) and remote (true)';
  if (run !== undefined && typeof run !== 'function') return 'run must be a function';
  if (isolation !== undefined && (isolation !== 'thread' || run === undefined))
    return 'isolation must be "thread", beside a run, or be left out';
  if (![undefined, true].includes(remote)) return 'remote must be true, or be left out';
  return backend === undefined ? undefined : faultOfBackend(backend);
}

const METHODS: readonly string[] = ['POST', 'PUT', 'PATCH', 'GET', 'DELETE'];

function faultOfBackend(backend: NonNullable<AnyJobDefinition['backend']>): string | undefined {
  if (typeof backend !== 'object' || backend === null) return 'backend must be { url, method?, headers?, timeoutMs? }';
  const { url, method = 'POST', headers = {}, timeoutMs = 1 } = backend;
  if (typeof url !== 'string' || !judgeUrl(url, ANYWHERE).ok)
    return 'backend.url must be an http(s) URL without user name and password (send credentials as a header)';
  if (!METHODS.includes(method)) return `backend.method must be one of ${METHODS.join(', ')}`;
  if (!isPlain(headers)) return 'backend.headers must be header names with their values';
  if (!isWhole(timeoutMs, 1, DAY_MS)) return `backend.timeoutMs must be a whole number from 1 to ${DAY_MS}`;
  const names = Object.keys(headers).map((name) => name.toLowerCase());
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) return `backend.headers has ${twice} twice: names do not differ by case`;
  for (const [name, value] of Object.entries(headers)) {
    const fault = faultOfHeader(name.toLowerCase(), value);
    if (fault !== undefined) return `backend.headers: ${fault}`;
  }
  return undefined;
}

const HEADER_NAME = /^[!#$%&'*+.^_`|~\w-]{1,100}$/;
// Printable ASCII: what else a header may hold is not the same to every server.
const HEADER_VALUE = /^[\t\x20-\x7e]*$/;
/** RFC 9110, 7.2. Allowed, unlike in a callback: a service behind a virtual host may be reached by its address only. */
const HOST = /^(?:[\w.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?$/i;

function faultOfHeader(name: string, value: unknown): string | undefined {
  if (!HEADER_NAME.test(name)) return `${JSON.stringify(name)} is not the name of a header`;
  if (typeof value !== 'string' || !HEADER_VALUE.test(value)) return `the value of ${name} must be printable text`;
  if (CONNECTION_HEADERS.has(name)) return `${name} belongs to the connection: leave it out`;
  if (name === 'idempotency-key' || name.startsWith('ringback-')) return `${name} is set for every run: leave it out`;
  if (name === 'host' && !HOST.test(value))
    return 'the value of host must be a name or an address, with or without port';
  return undefined;
}

function faultOfRetry(retry: AnyJobDefinition['retry']): string | undefined {
  if (retry === undefined) return undefined;
  if (typeof retry !== 'object' || retry === null) return 'retry must be { maxRuns?, minDelayMs?, ... }';
  const { maxRuns = 1, minDelayMs = 0, maxDelayMs = 0, factor = 1, jitter = 0 } = retry;
  if (!isWhole(maxRuns, 1, 100)) return 'retry.maxRuns must be a whole number from 1 to 100';
  if (!isWhole(minDelayMs, 0, DAY_MS)) return `retry.minDelayMs must be a whole number from 0 to ${DAY_MS}`;
  if (!isWhole(maxDelayMs, 0, DAY_MS)) return `retry.maxDelayMs must be a whole number from 0 to ${DAY_MS}`;
  if (!isWithin(factor, 1, 100)) return 'retry.factor must be a number from 1 to 100';
  if (!isWithin(jitter, 0, 1)) return 'retry.jitter must be a number from 0 to 1';
  return undefined;
}

function isWhole(value: number, least: number, most: number): boolean {
  return Number.isInteger(value) && value >= least && value <= most;
}

/** The type is for those who write TypeScript: text and BigInts can be compared too. */
function isWithin(value: number, least: number, most: number): boolean {
  return typeof value === 'number' && value >= least && value <= most;
}

/** Not a `Map`, a list or `Headers`, of which no header would be seen. */
function isPlain(value: object | null): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function isSchema(value: unknown): value is StandardSchema {
  const standard = (value as Partial<StandardSchema> | undefined)?.['~standard'];
  return typeof standard?.validate === 'function';
}
