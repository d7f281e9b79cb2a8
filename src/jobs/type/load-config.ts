import { access } from 'node:fs/promises';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { AnyJobDefinition, RingbackConfig } from './define.ts';
import { diagnosticJobs } from './diagnostics.ts';
import { JobTypes } from './job-types.ts';

/** `ringback.config.ts` cannot be used; the message says which file and why. */
export class ConfigFileError extends Error {
  override readonly name = 'ConfigFileError';
}

/**
 * Loads the job types of a configuration file, with those of the service itself and, when asked, the diagnostic ones. `maxInputBytes` is
 * for types without.
 */
export async function loadJobTypes(
  file: string,
  options: { diagnostics: boolean; maxInputBytes?: number; own?: readonly AnyJobDefinition[] },
): Promise<JobTypes> {
  const path = resolve(file);
  const jobs = await readJobs(path);
  try {
    return new JobTypes(
      jobs,
      [...(options.own ?? []), ...(options.diagnostics ? diagnosticJobs : [])],
      options.maxInputBytes,
    );
  } catch (error) {
    throw new ConfigFileError(`${path}: ${(error as Error).message}`, { cause: error });
  }
}

async function readJobs(path: string): Promise<readonly AnyJobDefinition[]> {
  await access(path).catch((error: unknown) => {
    throw new ConfigFileError(`${path}: cannot be read; set RINGBACK_CONFIG to the file that defines the jobs`, {
      cause: error,
    });
  });
  let module: { default?: Partial<RingbackConfig> };
  try {
    module = (await import(pathToFileURL(path).href)) as typeof module;
  } catch (error) {
    throw new ConfigFileError(`${path}: failed to load: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
  const jobs = module.default?.jobs;
  if (!Array.isArray(jobs)) {
    throw new ConfigFileError(`${path}: should say: export default defineConfig({ jobs: [...] })`);
  }
  return jobs as readonly AnyJobDefinition[];
}
