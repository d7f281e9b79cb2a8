import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { newApiKey } from '#domain/api-key.ts';

/** What an installation with its own database makes for itself, once, and keeps in its data directory. */
export interface KeptSecrets {
  readonly apiKey: string;
  /** 32 bytes in base64. */
  readonly secretKey: string;
}

/** Only the file's owner may read them. Call it while holding the data directory. */
export async function keepSecrets(dataDir: string): Promise<KeptSecrets> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  return {
    apiKey: await keep(join(dataDir, 'api-key'), newApiKey),
    secretKey: await keep(join(dataDir, 'secret-key'), () => randomBytes(32).toString('base64')),
  };
}

async function keep(path: string, make: () => string): Promise<string> {
  try {
    const kept = (await readFile(path, 'utf8')).trim();
    if (kept !== '') return kept;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const made = make();
  await writeFile(path, `${made}\n`, { mode: 0o600 });
  return made;
}
