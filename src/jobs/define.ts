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

/** What a handler is given. */
export interface JobContext<Input> {
  /** The submitted input as the schema parsed it. */
  readonly input: Input;
  /** Aborts on timeout, on shutdown and when the lease is lost; `signal.reason` says which. */
  readonly signal: AbortSignal;
  /** Shown to whoever polls: `percent` from 0 to 100. Returns at once; the latest call wins. */
  readonly progress: (percent: number, message?: string) => void;
  readonly job: { readonly id: string; readonly type: string; readonly accountId: string };
  /** This try; `number` counts from 1. */
  readonly run: { readonly id: string; readonly number: number };
}

export interface JobDefinition<
  In extends StandardSchema = StandardSchema,
  Out extends StandardSchema | undefined = StandardSchema | undefined,
> {
  /** Stable, lower case, dotted: `csv.profile`. Clients send it, rows keep it. */
  readonly type: string;
  readonly description?: string;
  readonly input: In;
  /** Checked before the result is stored; a value that fails it fails the job. */
  readonly output?: Out;
  /** Longest time for one run, in milliseconds. Default 60,000. */
  readonly timeoutMs?: number;
  /** Runs in all before the job fails. Default 3. */
  readonly maxRuns?: number;
  /**
   * Does the work. The value it returns, or its promise resolves to, is the job's output: JSON, at most 1 MiB.
   * Throw to fail the run (it is retried); throw `new NonRetryableError(message)` to fail the job.
   */
  readonly run: (context: JobContext<OutputOf<In>>) => unknown;
}

/** A job type with its own types forgotten, as the registry keeps it. */
export type AnyJobDefinition = Omit<JobDefinition, 'run'> & {
  readonly run: (context: JobContext<never>) => unknown;
};

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
