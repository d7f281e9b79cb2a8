/** What every test file is told of the server that the global set-up found. */
export interface ProvidedServer {
  /** For CREATE and DROP DATABASE. */
  readonly adminUrl: string;
  /** A migrated database that nobody connects to: to be cloned. */
  readonly template: string;
  /** Where a pooler takes connections to the same server, when the run goes through one. */
  readonly pooler: string | undefined;
  /** True when the server outlives the run, so that the database of a failed file is worth keeping. */
  readonly survives: boolean;
}

declare module 'vitest' {
  export interface ProvidedContext {
    server: ProvidedServer;
  }
}

/** A database of the server. */
export function databaseUrl(serverUrl: string, name: string): string {
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  return url.href;
}
