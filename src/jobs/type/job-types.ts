import { nearestNames } from '#domain/nearest.ts';
import { type Result, refuse } from '#domain/problem.ts';
import { DEFAULT_RETRY_POLICY, type RetryPolicy } from '#domain/retry.ts';
import type { AnyJobDefinition } from './define.ts';
import { faultOf } from './job-type-faults.ts';

const DEFAULT_TIMEOUT_MS = 60_000;

/** Who does the work: the runner's event loop, a thread of its own, an HTTP back end, or a worker that claims over HTTP. */
export type Way = 'inline' | 'thread' | 'backend' | 'remote';

export interface JobType extends AnyJobDefinition {
  readonly way: Way;
  readonly timeoutMs: number;
  readonly maxInputBytes: number;
  readonly retryPolicy: RetryPolicy;
  /** The pool its runs wait in: see `poolOf`. */
  readonly pool: string;
}

/** Pools of the types that share the workers of a runner, without a limit of their own. */
export const SHARED_POOLS = { inline: 'shared', thread: 'threads' } as const;

/**
 * Runs wait in pools, and a claim takes from one pool. Types without a limit share one, so that their number does not
 * matter to a claim; a type with a limit, or with workers of its own, has its own pool, which a claim can leave alone.
 * `:` is in no shared pool's name and in no type's.
 */
function poolOf(definition: AnyJobDefinition, way: Way): string {
  if (way === 'remote') return `remote:${definition.type}`;
  if (definition.concurrency !== undefined) return `limited:${definition.type}`;
  return way === 'thread' ? SHARED_POOLS.thread : SHARED_POOLS.inline;
}

function wayOf({ isolation, backend, remote }: AnyJobDefinition): Way {
  if (remote) return 'remote';
  if (backend) return 'backend';
  return isolation ?? 'inline';
}

/** The job types this process knows. */
export class JobTypes {
  readonly #byType = new Map<string, JobType>();

  readonly #maxInputBytes: number;

  /** @throws Error that names every bad definition and says what is wrong with it */
  constructor(
    definitions: readonly AnyJobDefinition[],
    builtIn: readonly AnyJobDefinition[] = [],
    maxInputBytes = Number.POSITIVE_INFINITY,
  ) {
    this.#maxInputBytes = maxInputBytes;
    for (const definition of builtIn) this.#add(definition);
    const faults = definitions.flatMap((definition, index) => {
      const fault = faultOf(definition, this.#byType);
      if (fault !== undefined) return [`jobs[${index}] (${nameOf(definition)}): ${fault}`];
      this.#add(definition);
      return [];
    });
    if (faults.length > 0) throw new Error(`job types that cannot be used:\n  ${faults.join('\n  ')}`);
  }

  #add(definition: AnyJobDefinition): void {
    const { type, timeoutMs = DEFAULT_TIMEOUT_MS, maxInputBytes = this.#maxInputBytes, retry } = definition;
    const way = wayOf(definition);
    const retryPolicy = { ...DEFAULT_RETRY_POLICY, ...retry };
    const pool = poolOf(definition, way);
    this.#byType.set(type, { ...definition, timeoutMs, maxInputBytes, way, retryPolicy, pool });
  }

  get(type: string): JobType | undefined {
    return this.#byType.get(type);
  }

  list(): JobType[] {
    return [...this.#byType.values()].toSorted((a, b) => a.type.localeCompare(b.type));
  }

  /** The type, or a refusal that names the known ones near it. */
  find(type: string): Result<JobType> {
    const found = this.#byType.get(type);
    if (found !== undefined) return { ok: true, value: found };
    const near = nearestNames(type, [...this.#byType.keys()]);
    const hint = near.length > 0 ? `Did you mean ${near.join(' or ')}?` : 'GET /v1/job-types lists those there are.';
    return refuse('unknown_job_type', `No job type is called ${JSON.stringify(type.slice(0, 100))}. ${hint}`, {
      extra: { near },
    });
  }
}

/** For the message; a definition may be anything, its type a symbol. */
function nameOf(definition: { readonly type?: string | symbol } | null | undefined): string {
  return definition?.type?.toString() ?? 'no type';
}

/** JSON Schema of the input, where the schema library can tell. */
export function inputJsonSchema({ input }: JobType): Record<string, unknown> | undefined {
  try {
    return input['~standard'].jsonSchema?.input({ target: 'draft-2020-12' });
  } catch {
    return undefined; // it holds what JSON Schema cannot say: a date, a BigInt, a check of its own
  }
}
