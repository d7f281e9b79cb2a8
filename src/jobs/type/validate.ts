import { type Fault, toPointer } from '#domain/problem.ts';
import type { StandardSchema } from './define.ts';

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
