import { nearestNames } from '#domain/nearest.ts';
import { type Fault, type Result, refuse, toPointer } from '#domain/problem.ts';
import type { AnyJobDefinition, StandardSchema } from './define.ts';

const TYPE_FORM = /^[a-z][a-z0-9_-]*(?:\.[a-z0-9_-]+)*$/;
const MAX_TYPE_LENGTH = 100;
const DEFAULT_TIMEOUT_MS = 60_000;
const DEFAULT_MAX_RUNS = 3;

export interface JobType extends AnyJobDefinition {
  readonly timeoutMs: number;
  readonly maxRuns: number;
}

/** The job types this process knows. */
export class JobTypes {
  readonly #byType = new Map<string, JobType>();

  /** @throws Error that names every bad definition and says what is wrong with it */
  constructor(definitions: readonly AnyJobDefinition[], builtIn: readonly AnyJobDefinition[] = []) {
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
    const { type, timeoutMs = DEFAULT_TIMEOUT_MS, maxRuns = DEFAULT_MAX_RUNS } = definition;
    this.#byType.set(type, { ...definition, timeoutMs, maxRuns });
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

function faultOf(definition: AnyJobDefinition, known: ReadonlyMap<string, JobType>): string | undefined {
  if (typeof definition !== 'object' || definition === null) return 'is not an object; make it with defineJob()';
  const { type, run, input, output, timeoutMs = 1, maxRuns = 1 } = definition;
  if (typeof type !== 'string' || !TYPE_FORM.test(type) || type.length > MAX_TYPE_LENGTH)
    return `type must look like "csv.profile" (${TYPE_FORM.source}) and have ${MAX_TYPE_LENGTH} characters at most`;
  if (known.has(type)) return 'another job type has the same name';
  if (typeof run !== 'function') return 'run must be a function';
  if (!isSchema(input)) return 'input must be a Standard Schema, for example a zod 4 object';
  if (output !== undefined && !isSchema(output)) return 'output must be a Standard Schema, or be left out';
  if (!isWhole(timeoutMs, 1, 86_400_000)) return 'timeoutMs must be a whole number from 1 to 86400000';
  if (!isWhole(maxRuns, 1, 100)) return 'maxRuns must be a whole number from 1 to 100';
  return undefined;
}

/** For the message; a definition may be anything, its type a symbol. */
function nameOf(definition: { readonly type?: string | symbol } | null | undefined): string {
  return definition?.type?.toString() ?? 'no type';
}

function isWhole(value: number, least: number, most: number): boolean {
  return Number.isInteger(value) && value >= least && value <= most;
}

function isSchema(value: unknown): value is StandardSchema {
  const standard = (value as Partial<StandardSchema> | undefined)?.['~standard'];
  return typeof standard?.validate === 'function';
}

/** The value as the schema parsed it, or where it does not fit. */
export async function validate(
  schema: StandardSchema,
  value: unknown,
): Promise<{ ok: true; value: unknown } | { ok: false; faults: Fault[] }> {
  const checked = schema['~standard'].validate(value);
  const result = checked instanceof Promise ? await checked : checked;
  if (result.issues === undefined) return { ok: true, value: result.value };
  return { ok: false, faults: result.issues.map(({ path, message }) => ({ path: toPointer(path), message })) };
}

/** JSON Schema of the input, where the schema library can tell. */
export function inputJsonSchema({ input }: JobType): Record<string, unknown> | undefined {
  try {
    return input['~standard'].jsonSchema?.input({ target: 'draft-2020-12' });
  } catch {
    return undefined; // it holds what JSON Schema cannot say: a date, a BigInt, a check of its own
  }
}
