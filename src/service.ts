import { ApiKeys, ensureBootstrapKey } from '#accounts/api-keys.ts';
import { Courier } from '#callbacks/courier.ts';
import { DeliveryQueries } from '#callbacks/delivery-queries.ts';
import { Endpoints } from '#callbacks/endpoints.ts';
import type { Config } from './config.ts';
import { newId } from '#domain/ids.ts';
import type { SecretKey } from '#domain/secret-box.ts';
import { createGuard } from '#egress/guard.ts';
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
import { isUnavailable, openDatabase } from '#store/database.ts';
import { migrate } from '#store/migrate.ts';
import { VERSION } from './version.ts';

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
  await migrate(database.direct, () => installQueueSchema(database.direct));

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

  const server = config.roles.has('api') ? await listen(config) : undefined;
  const publicUrl = config.publicUrl ?? server?.url ?? `http://localhost:${config.port}`;
  const sender = createSender({ policy: config.egress, userAgent: `Ringback/${VERSION}` });
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
        guard: createGuard({ policy: config.egress }),
        keys,
        announce: announceRuns,
      }),
      jobs: new JobQueries(db),
      deliveries: new DeliveryQueries(db),
      endpoints: new Endpoints({ db, guard: createGuard({ policy: config.egress }), keys }),
      keys: new ApiKeys(db),
      types,
      publicUrl,
      maxBodyBytes: config.maxBodyBytes,
      log,
      version: VERSION,
      isReady: () =>
        db.sql`SELECT 1`.then(
          () => true,
          () => false,
        ),
      isUnavailable,
    }).fetch,
  );

  async function stop(): Promise<void> {
    // First no new work, then the old work's ends: a run that ends now still queues its delivery, durably.
    await server?.close(config.shutdownTimeoutMs);
    await Promise.all([
      runner?.stop(config.shutdownTimeoutMs),
      courier?.stop(config.shutdownTimeoutMs),
      keeper?.stop(),
    ]);
    await Promise.race([sender.close(), Promise.resolve()]);
    await Promise.all([queues.close(), listener.close(), db.close()]);
  }
  return { url: server?.url, stop };
}
