import { loadJobTypes } from '../../../src/jobs/type/load-config.ts';

/** What became of loading a config file, as one line of JSON. */
export type Loaded =
  | { readonly ok: true; readonly types: readonly string[] }
  | { readonly ok: false; readonly name: string; readonly message: string; readonly cause: string };

// Run by itself: the test runner's module loader takes what Node refuses, and words what both refuse otherwise.
const [path = '', diagnostics] = process.argv.slice(2);
const loaded: Loaded = await loadJobTypes(path, { diagnostics: diagnostics === 'true' }).then(
  (types) => ({ ok: true, types: types.list().map(({ type }) => type) }),
  ({ name, message, cause }: Error) => ({ ok: false, name, message, cause: String(cause) }),
);
process.stdout.write(JSON.stringify(loaded));
