import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

export interface DemoService {
  readonly url: string;
  readonly databaseUrl: string;
  stop(): Promise<void>;
}

/** Starts the service as `npm start` does, in a process of its own, and reads from its output where it is. */
export async function startService({ dataDir, key }: { dataDir: string; key: string }): Promise<DemoService> {
  // Not the caller's own installation: neither its database nor its settings.
  const inherited = Object.entries(process.env).filter(([name]) => !/^(?:RINGBACK_|DATABASE_|PORT$|HOST$)/.test(name));
  const env = { ...Object.fromEntries(inherited), PORT: '0', RINGBACK_DATA_DIR: dataDir, RINGBACK_BOOTSTRAP_KEY: key };
  const child = spawn(process.execPath, ['src/main.ts'], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  let url: string | undefined;
  let databaseUrl: string | undefined;
  for await (const line of createInterface(child.stdout)) {
    url ??= /"url":"([^"]+)".*"msg":"listening"/.exec(line)?.[1];
    databaseUrl ??= /psql '([^']+)'/.exec(line)?.[1];
    if (url === undefined || databaseUrl === undefined) continue;
    child.stdout.resume();
    return {
      url,
      databaseUrl,
      stop: async () => {
        child.kill('SIGTERM');
        await exited;
      },
    };
  }
  throw new Error('the service ended before it listened');
}
