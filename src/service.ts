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
import { loadJobTypes } from '#jobs/load-config.ts';
import { Runner } from '#jobs/runner.ts';
import { Submitter } from '#jobs/submit.ts';
import { Keeper } from '#keeper/keeper.ts';
import type { Logger } from './log.ts';
import { installQueueSchema, openQueues } from '#queue/queues.ts';
import { WakeUps } from '#queue/wake-ups.ts';
import { type Database, isUnavailable, openDatabase } from '#store/database.ts';
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
  const { config, log, database, secretKeys: keys } = deps;
  const types = await loadJobTypes(config.configFile, { diagnostics: config.diagnostics });
  await migrateWhenReady(database.direct, log);

  const workerId = newId('wrk', Date.now());
  const onError = (error: unknown) => log.error({ err: error }, 'queue');
  const db = openDatabase({
    url: database.url,
    applicationName: 'ringback',
    max: config.databaseConnections,
    pinPlans: !database.pooled,
  });
  const listener = openDatabase({ url: database.direct, applicationName: 'ringback-listen', max: 1, pinPlans: false });
  const queues = await openQueues(database.url, onError);
  const wakeUps = new WakeUps(db.sql, listener.sql, workerId, onError);
  const announceRuns = () => wakeUps.announce(queues.runs.name);
  const announceDeliveries = () => wakeUps.announce(queues.deliveries.name);
  if (deps.bootstrapKey !== undefined) await ensureBootstrapKey(db, deps.bootstrapKey, new Date());

  const server = config.roles.has('api') ? await listen(config).catch(explainListen) : undefined;
  const publicUrl = config.publicUrl ?? server?.url ?? `http://localhost:${config.port}`;
  const resolve = systemResolver();
  const guard = createGuard({ policy: config.egress, resolve });
  const sender = createSender({ policy: config.egress, resolve, userAgent: `Ringback/${VERSION}` });
  const shared = { db, queues, workerId, log, pollMs: POLL_MS };
  const runner = config.roles.has('runner')
    ? new Runner({ ...shared, types, publicUrl, concurrency: config.runnerConcurrency, announceDeliveries })
    : undefined;
  const courier = config.roles.has('courier')
    ? new Courier({
        ...shared,
        sender,
        keys,
        concurrency: config.courierConcurrency,
        schedule: config.callbackSchedule,
        timeoutMs: config.callbackTimeoutMs,
      })
    : undefined;
  const keeper = config.roles.has('keeper')
    ? new Keeper({ db, queues, log, announce: (queue) => wakeUps.announce(queue) })
    : undefined;

  if (runner !== undefined) wakeUps.register(queues.runs.name, runner.loop);
  if (courier !== undefined) wakeUps.register(queues.deliveries.name, courier.loop);
  await wakeUps.listen();
  runner?.start();
  courier?.start();
  keeper?.start();
  server?.serve(
    createApp({
      submitter: new Submitter({
        db,
        queues,
        types,
        guard,
        keys,
        announce: announceRuns,
      }),
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
    }).fetch,
  );

  async function stop(): Promise<void> {
    const graceMs = config.shutdownTimeoutMs;
    // All at once, so that one bound holds for everything. A run that ends now still queues its delivery, durably.
    await Promise.all([server?.close(graceMs), runner?.stop(graceMs), courier?.stop(graceMs), keeper?.stop()]);
    await Promise.all([queues.close(), listener.close(), db.close()]);
  }
  return { url: server?.url, stop };
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
