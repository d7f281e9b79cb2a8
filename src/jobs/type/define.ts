/**
 * What a platform owner imports: `import { defineConfig, defineJob } from 'ringback'`.
 * Schemas are anything that speaks Standard Schema (https://standardschema.dev): zod 4, valibot, arktype.
 */

/** The part of Standard Schema v1 that Ringback reads. */
export interface StandardSchema<Input = unknown, Output = Input> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
    /** Standard JSON Schema v1, where the library offers it: shown by `GET /v1/job-types`. */
    readonly jsonSchema?: { readonly input: (options: { target: string }) => Record<string, unknown> };
  };
}

export type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly SchemaIssue[] };

export interface SchemaIssue {
  readonly message: string;
  readonly path?: ReadonlyArray<PropertyKey | { readonly key: PropertyKey }> | undefined;
}

type OutputOf<S> = S extends StandardSchema<infer _, infer Output> ? Output : never;

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** What a handler is given. */
export interface JobContext<Input> {
  /** The submitted input as the schema parsed it. A number that would not be the one that was sent is refused before. */
  readonly input: Input;
  /** Aborts on timeout, on cancel, on shutdown and when the lease is lost; `signal.reason` says which. */
  readonly signal: AbortSignal;
  /** Shown to whoever polls: `percent` from 0 to 100. Returns at once; the latest call wins. */
  readonly progress: (percent: number, message?: string) => void;
  /** Adds a line to the job's log, which its client may read. Returns at once; `fields` must be JSON. */
  readonly log: (level: LogLevel, message: string, fields?: Readonly<Record<string, unknown>>) => void;
  readonly job: { readonly id: string; readonly type: string; readonly accountId: string };
  /** This try; `number` counts from 1. */
  readonly run: { readonly id: string; readonly number: number };
}

/** How often a failed run is tried again, and when. Members left out keep their defaults. */
export interface RetryOptions {
  /** Runs in all before the job fails. Default 3. */
  readonly maxRuns?: number;
  /** Before the second run, in milliseconds. Default 1,000. */
  readonly minDelayMs?: number;
  /** Each delay is this many times the one before. Default 2. */
  readonly factor?: number;
  /** No delay is longer, in milliseconds. Default 300,000. */
  readonly maxDelayMs?: number;
  /** Each delay is spread by this share to each side, from 0 to 1. Default 0.2. */
  readonly jitter?: number;
}

interface JobTypeOptions<In extends StandardSchema, Out extends StandardSchema | undefined> {
  /** Stable, lower case, dotted: `csv.profile`. Clients send it, rows keep it. */
  readonly type: string;
  readonly description?: string;
  readonly input: In;
  /**
   * Checked before the result is stored; a value that fails it fails the job. A back end's or worker's output is stored as it was
   * sent, unless the schema changes it.
   */
  readonly output?: Out;
  /** Longest time for one run, in milliseconds. Default 60,000. A submission may ask for less. */
  readonly timeoutMs?: number;
  readonly retry?: RetryOptions;
  /** Runs of this type at once, in all processes together. Default: no limit but the workers' own. */
  readonly concurrency?: number;
  /** Of the input as it was sent. Default: what a request may have at most. */
  readonly maxInputBytes?: number;
}

/** Way 1 and 2: code of ours, on the event loop of the runner or in a thread of its own. */
interface InProcess<In extends StandardSchema> {
  /**
   * Does the work. The value it returns, or its promise resolves to, is the job's output: JSON of any size up to
   * the result limit, or a `FileResult` of any content type. Throw to fail the run (it is retried); throw a
   * `NonRetryableError` to fail the job, a `RetryAfterError` to choose when it is tried again.
   */
  readonly run: (context: JobContext<OutputOf<In>>) => unknown;
  /** `thread` for work that would block the event loop: it gets a thread, and a timeout or cancel really ends it. */
  readonly isolation?: 'thread';
  readonly backend?: never;
  readonly remote?: never;
}

/**
 * Way 3: a synchronous service that is there already. The runner calls it once per run and takes its response as the
 * result: JSON as a value, anything else as a file; 202 when it tells the end later, at the URL in
 * `ringback-completion-url`. 408, 425, 429, 5xx and a broken connection fail the run, which is tried again, not before
 * the response's Retry-After; other statuses fail the job. Redirects are not followed. Every run of a job carries the
 * same `idempotency-key`, by which the service can tell that it has done the work already.
 */
export interface Backend {
  /** http or https, any address, private ones too. Credentials go into `headers`. */
  readonly url: string;
  /**
   * Default `POST`: the body is the input as it was submitted, character by character, not as the schema parsed it. `GET`
   * sends no body: text, numbers, as they were written, and booleans of an input object become query parameters, all else of it is left out, and so is what `url` has a parameter for.
   */
  readonly method?: 'POST' | 'PUT' | 'PATCH' | 'GET' | 'DELETE';
  /**
   * Sent with every call, credentials too, in place of ours (`accept`, `content-type`, `user-agent`, `host`). Not those
   * of the connection (`connection`, `content-length`, `transfer-encoding`, `accept-encoding`, ...), nor
   * `idempotency-key` and `ringback-*`.
   */
  readonly headers?: Readonly<Record<string, string>>;
  /** For the whole answer, in milliseconds. Default: the type's `timeoutMs`. */
  readonly timeoutMs?: number;
}

interface HttpBackend {
  readonly backend: Backend;
  readonly run?: never;
  readonly isolation?: never;
  readonly remote?: never;
}

/** Way 4: workers in any language, that claim over HTTP. */
interface RemoteWorkers {
  readonly remote: true;
  readonly run?: never;
  readonly isolation?: never;
  readonly backend?: never;
}

export type JobDefinition<
  In extends StandardSchema = StandardSchema,
  Out extends StandardSchema | undefined = StandardSchema | undefined,
> = JobTypeOptions<In, Out> & (InProcess<In> | HttpBackend | RemoteWorkers);

/** A job type with its own types forgotten, as the registry keeps it. */
export interface AnyJobDefinition extends JobTypeOptions<StandardSchema, StandardSchema | undefined> {
  readonly run?: (context: JobContext<never>) => unknown;
  readonly isolation?: 'thread';
  readonly backend?: Backend;
  readonly remote?: true;
}

export interface RingbackConfig {
  readonly jobs: readonly AnyJobDefinition[];
}

/** Declares a job type; the handler's `input` takes its type from the schema. */
export function defineJob<In extends StandardSchema, Out extends StandardSchema | undefined = undefined>(
  definition: JobDefinition<In, Out>,
): JobDefinition<In, Out> {
  return definition;
}

/** Declares what `ringback.config.ts` exports as its default. */
export function defineConfig(config: RingbackConfig): RingbackConfig {
  return config;
}

/** Thrown by a handler: the job fails now, whatever runs are left. */
export class NonRetryableError extends Error {
  override readonly name = 'NonRetryableError';
}

/** Thrown by a handler: the run has failed, and the next one should not start before so many milliseconds. */
export class RetryAfterError extends Error {
  override readonly name = 'RetryAfterError';
  readonly retryAfterMs: number;

  constructor(message: string, retryAfterMs: number, options?: ErrorOptions) {
    super(message, options);
    this.retryAfterMs = retryAfterMs;
  }
}

/** Returned by a handler whose result is not JSON, or is too large to be held in memory: a PDF, an image, an export. */
export class FileResult {
  /** Bytes, or what yields them piece by piece: a stream is read no faster than it is stored. */
  readonly body: Uint8Array | AsyncIterable<Uint8Array>;
  /** `application/pdf` */
  readonly contentType: string;

  constructor(body: Uint8Array | AsyncIterable<Uint8Array>, contentType: string) {
    this.body = body;
    this.contentType = contentType;
  }
}
