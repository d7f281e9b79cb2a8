/** `{a,"b c"}`, as PostgreSQL writes an array of one dimension. */
function parseArray(text: string): string[] {
  const list = text.slice(1, -1);
  if (!list.includes('"')) return list === '' ? [] : list.split(',');
  const elements = list.matchAll(/"((?:[^"\\]|\\.)*)"|([^,]+)/g);
  return Array.from(elements, ([, quoted, plain]) => quoted?.replaceAll(/\\(.)/g, '$1') ?? plain ?? '');
}

function serializeArray(values: readonly string[]): string {
  return `{${values.map((value) => `"${value.replaceAll(/["\\]/g, String.raw`\$&`)}"`).join(',')}}`;
}

/**
 * Left to itself, postgres.js asks each new connection for the array types; a connection that breaks meanwhile ends the process
 * with an unhandled rejection. So it is given the one that we use.
 */
export const ARRAY_TYPES = {
  fetch_types: false,
  types: { textArray: { to: 1009, from: [1009], serialize: serializeArray, parse: parseArray } },
};
