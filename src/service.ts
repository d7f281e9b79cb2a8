import { ApiKeys, ensureBootstrapKey } from '#accounts/api-keys.ts';
import { Courier } from '#callbacks/courier.ts';
import { DeliveryQueries } from '#callbacks/delivery-queries.ts';
import { Endpoints } from '#callbacks/endpoints.ts';
import type { Config } from './config.ts';
import { newId } from '#domain/ids.ts';
import type { SecretKey } from '#domain/secret-box.ts';
import { createBackendClient } from '#egress/backend-client.ts';
import { createGuard } from '#egress/guard.ts';
import { systemResolver } from '#egress/resolve.ts';
import { createSender } from '#egress/send.ts';
import { createApp } from '#http/app.ts';
import { listen } from '#http/server.ts';
import { RunningLimits } from '#jobs/account-limits.ts';
import { Admission } from '#jobs/admission.ts';
import { backendWork } from '#jobs/backend-work.ts';
import { CallbackTargets } from '#jobs/callback-targets.ts';
import { Canceler } from '#jobs/cancel.ts';
import { Completions } from '#jobs/completions.ts';
import { DueRuns } from '#jobs/due-runs.ts';
import { Endings } from '#jobs/endings.ts';
import { fireSchedules } from '#jobs/fire-schedules.ts';
import { JobEvents } from '#jobs/job-events.ts';
import { JobLists } from '#jobs/job-lists.ts';
import { JobLogs } from '#jobs/job-log.ts';
import { JobQueries } from '#jobs/job-queries.ts';
import type { JobTypes } from '#jobs/job-types.ts';
import { JobWatch } from '#jobs/job-watch.ts';
import { loadJobTypes } from '#jobs/load-config.ts';
import { RemoteWorkers } from '#jobs/remote-workers.ts';
import { PollEstimate } from '#jobs/poll-estimate.ts';
import { QueueDepth } from '#jobs/queue-depth.ts';
import { expireJobs, moveStrays, rescueRuns } from '#jobs/rescue.ts';
import { ResultKeeper } from '#jobs/result-keeper.ts';
import { RunReports } from '#jobs/run-reports.ts';
import type { Work } from '#jobs/run-work.ts';
import { Retention } from '#jobs/retention.ts';
import { Runner } from '#jobs/runner.ts';
import { Schedules } from '#jobs/schedules.ts';
import { Submitter } from '#jobs/submit.ts';
import { ThreadPool } from '#jobs/thread-pool.ts';
import { TypeStats } from '#jobs/type-stats.ts';
import { dispatchWork } from '#jobs/work.ts';
import { Keeper, type Task } from '#keeper/keeper.ts';
import { endPartitions, forgetKeys, makePartitions, rescueDeliveries } from '#keeper/upkeep.ts';
import type { Logger } from './log.ts';
import { JobChanges } from '#queue/job-changes.ts';
import { LEASE_MS } from '#queue/leases.ts';
import { openQueues } from '#queue/queues.ts';
import { Signals } from '#queue/signals.ts';
import { type Database, isUnavailable, openDatabase } from '#store/database.ts';
import type { JobRef } from '#store/run-queue.ts';
import { explainListen, migrateWhenReady } from './start-up.ts';
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
  const { config, log, database } = deps;
  const types = await loadJobTypes(config.configFile, { diagnostics: config.diagnostics });
  await migrateWhenReady(database.direct, log);
  const parts = await openParts(deps);
  if (deps.bootstrapKey !== undefined) await ensureBootstrapKey(parts.db, deps.bootstrapKey, new Date());

  const server = config.roles.has('api') ? await listen(config).catch(explainListen) : undefined;
  const publicUrl = config.publicUrl ?? server?.url ?? `http://localhost:${config.port}`;
  const shared = { types, publicUrl };
  const roles = createRoles(deps, parts, shared);
  const remoteWorkers = createRemoteWorkers(deps, parts, shared);
  await Promise.all([parts.signals.listen(), parts.changes.listen()]);
  for (const role of roles) role.start();
  server?.serve(createApi(deps, parts, { ...shared, remoteWorkers }).fetch);

  async function stop(): Promise<void> {
    const graceMs = config.shutdownTimeoutMs;
    remoteWorkers.stop();
    // All at once, so that one bound holds for everything. A run that ends now still queues its delivery, durably.
    await Promise.all([parts.watch.close(), server?.close(graceMs), ...roles.map((role) => role.stop(graceMs))]);
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
  const signals = new Signals(db, listener.sql, workerId, onError);
  const announceRuns = (pool: string) => signals.announce(`pool:${pool}`);
  const announceDeliveries = () => signals.announce(queues.deliveries.name);
  const dueRuns = new DueRuns({ db, announce: announceRuns, onError });
  const dueAt = (at: number) => dueRuns.at(at);
  const changes = new JobChanges({ db, listener: listener.sql, instance: workerId, onError });
  const jobsChanged = (jobs: readonly JobRef[]) => changes.publish(jobs);
  const stats = new TypeStats({ db, onError });
  const ran = (type: string, ms: number) => stats.ran(type, ms);
  const resolve = systemResolver();
  return {
    workerId,
    db,
    queues,
    signals,
    changes,
    watch: new JobWatch({ db, changes, onError }),
    dueRuns,
    dueAt,
    jobsChanged,
    announceRuns,
    announceDeliveries,
    runningLimits: new RunningLimits({ db, maxRunning: config.accountLimits.maxRunning, onError }),
    endings: new Endings({ db, queues, listeners: { announceDeliveries, announceRuns, dueAt, jobsChanged, ran } }),
    results: new ResultKeeper(db, config.results, onError),
    guard: createGuard({ policy: config.egress, resolve }),
    sender: createSender({ policy: config.egress, resolve, userAgent: `Ringback/${VERSION}` }),
    close: async () => {
      await Promise.all([changes.close(), stats.close()]);
      await Promise.all([queues.close(), listener.close(), db.close()]);
    },
  };
}

type Parts = Awaited<ReturnType<typeof openParts>>;

interface Role {
  start(): void;
  stop(graceMs: number): Promise<void>;
}

interface Shared {
  readonly types: JobTypes;
  readonly publicUrl: string;
}

/** The roles of this process but `api`. */
function createRoles(deps: ServiceDeps, parts: Parts, shared: Shared): Role[] {
  const { roles } = deps.config;
  return [
    // Whoever can act on what is due looks for it.
    ...(roles.has('runner') || roles.has('keeper') ? [parts.dueRuns] : []),
    // Remote workers claim through the API.
    ...(roles.has('runner') || roles.has('api') ? [parts.runningLimits] : []),
    ...(roles.has('runner') ? [createRunner(deps, parts, shared)] : []),
    ...(roles.has('courier') ? [createCourier(deps, parts)] : []),
    ...(roles.has('keeper') ? [createKeeper(deps, parts, shared)] : []),
  ];
}

function createRunner({ config, log }: ServiceDeps, parts: Parts, shared: Shared): Role {
  const backends = createBackendClient({ userAgent: `Ringback/${VERSION}` });
  const { inlineBytes: inlineMaxBytes, maxBytes: maxResultBytes } = config.results;
  const completions = new Completions({ ...parts, ...shared, log });
  const now = () => new Date();
  const threads = new ThreadPool({
    configFile: config.configFile,
    diagnostics: config.diagnostics,
    maxThreads: config.runnerThreads,
    onError: (error) => log.error({ err: error }, 'thread'),
  });
  const thread: Work = ({ jobType, job, context }, signal) =>
    threads.run({ type: jobType.type, input: job.input, context }, signal);
  const backend = backendWork({ client: backends, completions, inlineMaxBytes, maxResultBytes, now });
  const runner = new Runner({
    ...parts,
    ...shared,
    log,
    concurrency: config.runnerConcurrency,
    threads: config.runnerThreads,
    cancelGraceMs: config.cancelGraceMs,
    accountLimits: parts.runningLimits,
    pollMs: POLL_MS,
    work: dispatchWork({ thread, backend }),
  });
  for (const [name, sleeper] of runner.sleepers) parts.signals.register(name, sleeper);
  parts.signals.onCancel((jobId) => runner.cancel(jobId));
  return {
    start: () => runner.start(),
    stop: async (graceMs) => {
      await runner.stop(graceMs);
      backends.close();
      await threads.close();
    },
  };
}

/** Who work for us over HTTP: any process with the API may be asked for runs. */
function createRemoteWorkers({ log }: ServiceDeps, parts: Parts, shared: Shared): RemoteWorkers {
  const register: Signals['register'] = (pool, sleeper) => parts.signals.register(`pool:${pool}`, sleeper);
  return new RemoteWorkers({ ...parts, ...shared, log, accountLimits: parts.runningLimits, register });
}

function createCourier({ config, log, secretKeys: keys }: ServiceDeps, parts: Parts): Role {
  const { courierConcurrency: concurrency, callbackSchedule: schedule, callbackTimeoutMs: timeoutMs } = config;
  const courier = new Courier({ ...parts, log, keys, concurrency, schedule, timeoutMs, pollMs: POLL_MS });
  parts.signals.register(parts.queues.deliveries.name, courier.loop);
  return courier;
}

function createKeeper({ config, log }: ServiceDeps, parts: Parts, shared: Shared): Role {
  const rescue = { ...parts, ...shared, log, cancelGraceMs: config.cancelGraceMs };
  const upkeep = { ...parts, log, leaseMs: LEASE_MS };
  const { retentionDays, recordRetentionDays } = config;
  const retention = new Retention({ ...parts, log, retentionDays, recordRetentionDays });
  // No rescue soon after a failed one: whoever was cut off together with us must have had the time to renew its leases.
  const patient = { everyMs: 5000, pauseAfterFailureMs: LEASE_MS };
  const tasks: readonly Task[] = [
    { name: 'rescue runs', ...patient, run: () => rescueRuns(rescue) },
    { name: 'rescue deliveries', ...patient, run: () => rescueDeliveries(upkeep) },
    { name: 'expire jobs', everyMs: 1000, run: () => expireJobs(rescue) },
    { name: 'fire schedules', everyMs: 1000, run: () => fireSchedules(rescue, new Date()) },
    { name: 'move strays', everyMs: 60_000, run: () => moveStrays(rescue) },
    { name: 'forget idempotency keys', everyMs: 60_000, run: () => forgetKeys(upkeep) },
    { name: 'retire jobs', everyMs: 5000, run: () => retention.run() },
    { name: 'make partitions', everyMs: 3_600_000, run: () => makePartitions(upkeep) },
    { name: 'drop partitions', everyMs: 3_600_000, run: () => endPartitions(upkeep, recordRetentionDays) },
  ];
  return new Keeper({ tasks, log });
}

interface ApiShared extends Shared {
  readonly remoteWorkers: RemoteWorkers;
}

function createApi({ config, log, secretKeys: keys }: ServiceDeps, parts: Parts, shared: ApiShared) {
  const { db, guard } = parts;
  const targets = new CallbackTargets({ db, guard });
  const onError = (error: unknown) => log.error({ err: error }, 'waiting');
  const { submissionsPerSecond: perSecond, maxPending } = config.accountLimits;
  const depth = new QueueDepth({ db, max: config.maxQueued, onError });
  const admission = new Admission({ db, defaults: { perSecond, maxPending }, depth, onError });
  const polls = new PollEstimate({ db, types: shared.types, onError });
  const jobs = new JobQueries(db, polls);
  return createApp({
    ...shared,
    submitter: new Submitter({ ...parts, ...shared, keys, targets, admission }),
    admission,
    schedules: new Schedules({ ...parts, ...shared, keys, targets, admission }),
    jobs,
    logs: new JobLogs(db, jobs),
    lists: new JobLists(db),
    watch: parts.watch,
    polls,
    events: new JobEvents({ db, watch: parts.watch, onError }),
    canceler: new Canceler({ ...parts, ...shared, signalCancel: (jobId) => parts.signals.cancel(jobId) }),
    workerReports: new RunReports({ ...parts, ...shared, log, holders: ['worker'] }),
    completions: new Completions({ ...parts, ...shared, log }),
    deliveries: new DeliveryQueries(db),
    endpoints: new Endpoints({ db, guard, keys }),
    keys: new ApiKeys(db),
    maxBodyBytes: config.maxBodyBytes,
    maxResultBytes: config.results.maxBytes,
    log,
    version: VERSION,
    isReady: () => answers(db),
    isUnavailable,
  });
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
