/** As much of JSON Schema 2020-12 as the service's document uses: enough to hold its answers against it. */
export interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly allOf?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean | Schema;
  readonly propertyNames?: Schema;
  readonly items?: Schema;
  readonly pattern?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
}

/** Says nothing about a value. */
const ANNOTATIONS = new Set([
  'description',
  'example',
  'examples',
  'format',
  'default',
  'title',
  '$schema',
  'deprecated',
]);
const KEYWORDS = new Set(
  (
    '$ref type enum const anyOf oneOf allOf properties required additionalProperties propertyNames items pattern ' +
    'minLength maxLength minimum maximum minItems maxItems'
  ).split(' '),
);

/** What a `#/...` pointer names, or undefined. */
export function resolveRef(document: unknown, ref: string): Schema | undefined {
  const keys = ref.replace(/^#\//, '').split('/');
  return keys.reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], document) as Schema;
}

/** What is wrong with a value, each with its place; a schema's member that is not known here is wrong as well. */
export function faultsOf(document: unknown, schema: Schema, value: unknown, at = ''): string[] {
  const unknown = Object.keys(schema).filter((key) => !KEYWORDS.has(key) && !ANNOTATIONS.has(key));
  const inner = (part: Schema, item: unknown, place: string) => faultsOf(document, part, item, place);
  const branches = [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])];
  const target = schema.$ref === undefined ? undefined : resolveRef(document, schema.$ref);
  return [
    ...unknown.map((key) => `${at}: this check does not know "${key}"`),
    ...(schema.$ref === undefined
      ? []
      : target === undefined
        ? [`${at}: no ${schema.$ref}`]
        : inner(target, value, at)),
    ...(branches.length > 0 && branches.every((branch) => inner(branch, value, at).length > 0)
      ? [`${at}: fits none of ${branches.length}`]
      : []),
    ...(schema.allOf ?? []).flatMap((part) => inner(part, value, at)),
    ...ownFaults(schema, value).map((fault) => `${at}: ${fault}`),
    ...(Array.isArray(value) && schema.items !== undefined
      ? value.flatMap((item, index) => inner(schema.items!, item, `${at}/${index}`))
      : []),
    ...(isObject(value) ? memberFaults(schema, value, at, inner) : []),
  ];
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function ownFaults(schema: Schema, value: unknown): string[] {
  const types = schema.type === undefined ? [] : [schema.type].flat();
  const size = typeof value === 'string' ? value.length : 0;
  const number = typeof value === 'number' ? value : undefined;
  return [
    ...(types.length > 0 && !types.some((type) => isOfType(type, value)) ? [`is no ${types.join(' or ')}`] : []),
    ...(schema.enum !== undefined && !schema.enum.includes(value) ? [`${String(value)} is none of the enum`] : []),
    ...(schema.const !== undefined && schema.const !== value ? [`is not ${JSON.stringify(schema.const)}`] : []),
    ...(typeof value === 'string' && schema.pattern !== undefined && !new RegExp(schema.pattern, 'u').test(value)
      ? [`${value} does not match ${schema.pattern}`]
      : []),
    ...(size < (typeof value === 'string' ? (schema.minLength ?? 0) : 0) ? ['is too short'] : []),
    ...(size > (schema.maxLength ?? Infinity) ? ['is too long'] : []),
    ...(number !== undefined && number < (schema.minimum ?? -Infinity) ? ['is too small'] : []),
    ...(number !== undefined && number > (schema.maximum ?? Infinity) ? ['is too large'] : []),
    ...(Array.isArray(value) && value.length < (schema.minItems ?? 0) ? ['has too few items'] : []),
    ...(Array.isArray(value) && value.length > (schema.maxItems ?? Infinity) ? ['has too many items'] : []),
  ];
}

function isOfType(type: string, value: unknown): boolean {
  if (type === 'null') return value === null;
  if (type === 'array') return Array.isArray(value);
  if (type === 'object') return isObject(value);
  if (type === 'integer') return Number.isInteger(value);
  return typeof value === type;
}

function memberFaults(
  { properties = {}, required = [], additionalProperties, propertyNames }: Schema,
  value: Record<string, unknown>,
  at: string,
  inner: (part: Schema, item: unknown, place: string) => string[],
): string[] {
  return [
    ...required.filter((name) => !(name in value)).map((name) => `${at}/${name}: is missing`),
    ...Object.entries(value).flatMap(([name, member]) => {
      const place = `${at}/${name}`;
      const names = propertyNames === undefined ? [] : inner(propertyNames, name, place);
      const known = Object.hasOwn(properties, name) ? properties[name] : undefined;
      if (known !== undefined) return [...names, ...inner(known, member, place)];
      if (additionalProperties === false) return [...names, `${place}: is not declared`];
      return [...names, ...(isObject(additionalProperties) ? inner(additionalProperties, member, place) : [])];
    }),
  ];
}
