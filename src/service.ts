import { setTimeout as sleep } from 'node:timers/promises';
import { ApiKeys, ensureBootstrapKey } from '#accounts/api-keys.ts';
import { Courier } from '#callbacks/courier.ts';
import { DeliveryQueries } from '#callbacks/delivery-queries.ts';
import { Endpoints } from '#callbacks/endpoints.ts';
import type { Config } from './config.ts';
import { newId } from '#domain/ids.ts';
import type { SecretKey } from '#domain/secret-box.ts';
import { createGuard } from '#egress/guard.ts';
import { systemResolver } from '#egress/resolve.ts';
import { createSender } from '#egress/send.ts';
import { createApp } from '#http/app.ts';
import { listen } from '#http/server.ts';
import { JobQueries } from '#jobs/job-queries.ts';
import type { JobTypes } from '#jobs/job-types.ts';
import { loadJobTypes } from '#jobs/load-config.ts';
import { Runner } from '#jobs/runner.ts';
import { Submitter } from '#jobs/submit.ts';
import { Keeper } from '#keeper/keeper.ts';
import type { Logger } from './log.ts';
import { installQueueSchema, openQueues } from '#queue/queues.ts';
import { WakeUps } from '#queue/wake-ups.ts';
import { type Database, isForbidden, isUnavailable, openDatabase } from '#store/database.ts';
import { migrate } from '#store/migrate.ts';
import { VERSION } from './version.ts';

/** The service cannot start, for a reason that its operator can mend. */
export class StartError extends Error {
  override readonly name = 'StartError';
}

/** What the configuration leaves to the way the service is started: an embedded database, or one that is given. */
export interface ServiceDeps {
  readonly config: Config;
  readonly log: Logger;
  readonly database: { readonly url: string; readonly direct: string; readonly pooled: boolean };
  readonly secretKeys: readonly SecretKey[];
  readonly bootstrapKey: string | undefined;
}

export interface Service {
  /** Undefined without the role `api`. */
  readonly url: string | undefined;
  /** Takes nothing new, finishes or gives back what is under way, and closes everything, within a bound. */
  stop(): Promise<void>;
}

const POLL_MS = 1000;

/** Wires the parts and starts the roles. */
export async function startService(deps: ServiceDeps): Promise<Service> {
  const { config, log, database } = deps;
  const types = await loadJobTypes(config.configFile, { diagnostics: config.diagnostics });
  await migrateWhenReady(database.direct, log);
  const parts = await openParts(deps);
  if (deps.bootstrapKey !== undefined) await ensureBootstrapKey(parts.db, deps.bootstrapKey, new Date());

  const server = config.roles.has('api') ? await listen(config).catch(explainListen) : undefined;
  const publicUrl = config.publicUrl ?? server?.url ?? `http://localhost:${config.port}`;
  const roles = createRoles(deps, parts, { types, publicUrl });
  await parts.wakeUps.listen();
  for (const role of roles) role.start();
  server?.serve(createApi(deps, parts, { types, publicUrl }).fetch);

  async function stop(): Promise<void> {
    const graceMs = config.shutdownTimeoutMs;
    // All at once, so that one bound holds for everything. A run that ends now still queues its delivery, durably.
    await Promise.all([server?.close(graceMs), ...roles.map((role) => role.stop(graceMs))]);
    await parts.close();
  }
  return { url: server?.url, stop };
}

/** What every role shares. */
async function openParts({ config, log, database }: ServiceDeps) {
  const workerId = newId('wrk', Date.now());
  const onError = (error: unknown) => log.error({ err: error }, 'queue');
  const { url, direct, pooled } = database;
  const db = openDatabase({ url, applicationName: 'ringback', max: config.databaseConnections, pinPlans: !pooled });
  const listener = openDatabase({ url: direct, applicationName: 'ringback-listen', max: 1, pinPlans: false });
  const queues = await openQueues(url, onError);
  const wakeUps = new WakeUps(db, listener.sql, workerId, onError);
  const resolve = systemResolver();
  return {
    workerId,
    db,
    queues,
    wakeUps,
    guard: createGuard({ policy: config.egress, resolve }),
    sender: createSender({ policy: config.egress, resolve, userAgent: `Ringback/${VERSION}` }),
    announceRuns: () => wakeUps.announce(queues.runs.name),
    announceDeliveries: () => wakeUps.announce(queues.deliveries.name),
    close: async () => {
      await Promise.all([queues.close(), listener.close(), db.close()]);
    },
  };
}

type Parts = Awaited<ReturnType<typeof openParts>>;

interface Role {
  start(): void;
  stop(graceMs: number): Promise<void>;
}

/** The roles of this process but `api`. */
function createRoles(
  { config, log, secretKeys: keys }: ServiceDeps,
  parts: Parts,
  { types, publicUrl }: { types: JobTypes; publicUrl: string },
): Role[] {
  const { db, queues, wakeUps } = parts;
  const roles: Role[] = [];
  if (config.roles.has('runner')) {
    const concurrency = config.runnerConcurrency;
    const runner = new Runner({ ...parts, log, types, publicUrl, concurrency, pollMs: POLL_MS });
    wakeUps.register(queues.runs.name, runner.loop);
    roles.push(runner);
  }
  if (config.roles.has('courier')) {
    const { courierConcurrency: concurrency, callbackSchedule: schedule, callbackTimeoutMs: timeoutMs } = config;
    const courier = new Courier({ ...parts, log, keys, concurrency, schedule, timeoutMs, pollMs: POLL_MS });
    wakeUps.register(queues.deliveries.name, courier.loop);
    roles.push(courier);
  }
  if (config.roles.has('keeper')) {
    roles.push(new Keeper({ db, queues, log, announce: (queue) => wakeUps.announce(queue) }));
  }
  return roles;
}

function createApi(
  { config, log, secretKeys: keys }: ServiceDeps,
  { db, queues, guard, announceRuns: announce }: Parts,
  { types, publicUrl }: { types: JobTypes; publicUrl: string },
) {
  return createApp({
    submitter: new Submitter({ db, queues, types, guard, keys, announce }),
    jobs: new JobQueries(db),
    deliveries: new DeliveryQueries(db),
    endpoints: new Endpoints({ db, guard, keys }),
    keys: new ApiKeys(db),
    types,
    publicUrl,
    maxBodyBytes: config.maxBodyBytes,
    log,
    version: VERSION,
    isReady: () => answers(db),
    isUnavailable,
  });
}

/** A port that is taken, or may not be used, is for the operator to mend. */
function explainListen(error: unknown): never {
  throw new StartError(`cannot listen: ${describe(error)}; set HOST and PORT`, { cause: error });
}

const READY_TIMEOUT_MS = 2000;

/** Asks the database, but does not wait long for it. */
async function answers({ sql }: Database): Promise<boolean> {
  const query = sql`SELECT 1`;
  const { promise: tooLate, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(resolve, READY_TIMEOUT_MS, false);
  return Promise.race([
    query.then(
      () => true,
      () => false,
    ),
    tooLate,
  ]).finally(() => clearTimeout(timer));
}

const START_PATIENCE_MS = 30_000;
const START_RETRY_MS = 1000;

/** The database may start a moment after us. */
async function migrateWhenReady(url: string, log: Logger): Promise<void> {
  const deadline = Date.now() + START_PATIENCE_MS;
  for (;;) {
    try {
      await migrate(url, () => installQueueSchema(url));
      return;
    } catch (error) {
      if (isForbidden(error)) throw new StartError(`the database refuses us: ${describe(error)}`, { cause: error });
      if (!isUnavailable(error)) throw error;
      if (Date.now() > deadline)
        throw new StartError(`the database cannot be reached: ${describe(error)}`, { cause: error });
      log.warn({ reason: describe(error) }, 'waiting for the database');
      await sleep(START_RETRY_MS);
    }
  }
}

/** Without the URL: it holds a password. */
function describe(error: unknown): string {
  return error instanceof Error ? error.message || error.name : String(error);
}
