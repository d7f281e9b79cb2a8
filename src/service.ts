import { setTimeout as sleep } from 'node:timers/promises';
import { ensureBootstrapKey } from '#accounts/api-keys.ts';
import { type HttpServer, listen } from '#http/server.ts';
import { RunTeller } from '#jobs/run/run-teller.ts';
import { loadJobTypes } from '#jobs/type/load-config.ts';
import type { Logger } from './log.ts';
import { type Database, isForbidden, isPooler, isUnavailable } from '#store/database.ts';
import { migrate } from '#store/migrate.ts';
import { createApi, createRemoteWorkers } from './api.ts';
import { openParts, type ServiceDeps } from './parts.ts';
import { recoveryJob } from './recovery-job.ts';
import { createRoles } from './roles.ts';
import { explainMissingKeys } from './secret-keys.ts';

/** The service cannot start, for a reason that its operator can mend. */
export class StartError extends Error {
  override readonly name = 'StartError';
}

export interface Service {
  /** Undefined without the role `api`. */
  readonly url: string | undefined;
  /** Takes nothing new, finishes or gives back what is under way, and closes everything, within a bound. */
  stop(): Promise<void>;
}

/** Takes the port first: requests and probes get a response for as long as the rest of the start takes. */
export async function startService(deps: ServiceDeps): Promise<Service> {
  const server = deps.config.roles.has('api') ? await listen(deps.config).catch(explainListen) : undefined;
  try {
    return await startRoles(deps, server);
  } catch (error) {
    await server?.close(FAILED_START_GRACE_MS);
    throw error;
  }
}

/** For responses on their way when a start fails. */
const FAILED_START_GRACE_MS = 200;

/** Wires the parts and starts the roles. */
async function startRoles(deps: ServiceDeps, server: HttpServer | undefined): Promise<Service> {
  const { config, log, database } = deps;
  const { diagnostics, maxBodyBytes: maxInputBytes } = config;
  const own = [recoveryJob(() => parts.redelivery)];
  const types = await loadJobTypes(config.configFile, { diagnostics, maxInputBytes, own });
  await migrateWhenReady(database.direct, log);
  const parts = await openParts(deps);
  await refuseMissingKeys(deps, parts.db);
  if (deps.bootstrapKey !== undefined) await ensureBootstrapKey(parts.db, deps.bootstrapKey, parts.clock.now());

  const publicUrl = config.publicUrl ?? server?.url ?? `http://localhost:${config.port}`;
  const teller = new RunTeller({
    ...parts,
    publicUrl,
    progressEveryMs: config.progressEveryMs,
    onError: (error) => log.error({ err: error }, 'telling'),
  });
  const shared = { types, publicUrl, teller };
  const roles = createRoles(deps, parts, shared);
  const remoteWorkers = createRemoteWorkers(deps, parts, shared);
  await parts.presence.start();
  await Promise.all([parts.signals.listen(), parts.changes.listen(), parts.eventChanges.listen()]);
  for (const role of roles) role.start();
  server?.serve(createApi(deps, parts, { ...shared, remoteWorkers }).fetch);

  async function stop(): Promise<void> {
    const graceMs = config.shutdownTimeoutMs;
    remoteWorkers.stop();
    // All at once, so that one bound holds for everything. A run that ends now still queues its delivery, durably.
    const { watch, feedWatch } = parts;
    await Promise.all([
      watch.close(),
      feedWatch.close(),
      server?.close(graceMs),
      ...roles.map((role) => role.stop(graceMs)),
    ]);
    await parts.close();
  }
  return { url: server?.url, stop };
}

/** Runners and keepers neither seal nor open anything. */
async function refuseMissingKeys({ config, secretKeys }: ServiceDeps, db: Database): Promise<void> {
  if (!config.roles.has('api') && !config.roles.has('courier')) return;
  const where = config.secretKeys === undefined ? `${config.dataDir}/secret-key` : 'RINGBACK_SECRET_KEY';
  const missing = await explainMissingKeys(db, secretKeys, where);
  if (missing !== undefined) throw new StartError(missing);
}

/** A port that is taken, or may not be used, is for the operator to mend. */
function explainListen(error: unknown): never {
  throw new StartError(`cannot listen: ${describe(error)}; set HOST and PORT`, { cause: error });
}

const START_PATIENCE_MS = 30_000;
const START_RETRY_MS = 1000;

const GO_DIRECTLY =
  'migrations and LISTEN need a session of their own; set DATABASE_DIRECT_URL to PostgreSQL itself, and DATABASE_URL to the pooler';

/** The database may start a moment after us. */
async function migrateWhenReady(url: string, log: Logger): Promise<void> {
  const deadline = performance.now() + START_PATIENCE_MS;
  for (;;) {
    try {
      const epoch = await migrate(url);
      // The first one begins with the data.
      if (epoch !== undefined && epoch.number > 1)
        log.info({ ...epoch }, 'the database is on another server, or its server was restarted');
      return;
    } catch (error) {
      if (isForbidden(error)) throw new StartError(`the database refuses us: ${describe(error)}`, { cause: error });
      if (isPooler(error)) throw new StartError(`${describe(error)}: ${GO_DIRECTLY}`, { cause: error });
      if (!isUnavailable(error)) throw error;
      if (performance.now() > deadline)
        throw new StartError(`the database cannot be reached: ${describe(error)}`, { cause: error });
      log.warn({ reason: describe(error) }, 'waiting for the database');
      await sleep(START_RETRY_MS);
    }
  }
}

/** Without the URL: it holds a password. What drizzle says of an error is the statement, and its cause is the reason. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? describe(error.cause) : error.message || error.name;
}
