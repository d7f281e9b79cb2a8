import { Courier } from '#callbacks/courier.ts';
import { releaseStranded, rescueDeliveries } from '#callbacks/rescue.ts';
import { createBackendClient } from '#egress/backend-client.ts';
import { backendWork } from '#jobs/backend/backend-work.ts';
import { Completions } from '#jobs/backend/completions.ts';
import { ScheduleCorrection } from '#jobs/schedule/correct-schedules.ts';
import { fireSchedules } from '#jobs/schedule/fire-schedules.ts';
import { Obstacles } from '#jobs/schedule/obstacles.ts';
import { noteOverdueSchedules, reviveSchedules } from '#jobs/schedule/tend-schedules.ts';
import { expireJobs, moveStrays, rescueRuns } from '#jobs/run/rescue.ts';
import { Retention } from '#jobs/read/retention.ts';
import { Runner } from '#jobs/run/runner.ts';
import { ThreadPool } from '#jobs/thread/thread-pool.ts';
import { dispatchWork, type HandlerWork } from '#jobs/run/work.ts';
import { ClockGuard } from '#keeper/clock-guard.ts';
import { DeadProcesses } from '#keeper/dead-processes.ts';
import { Keeper, type Task } from '#keeper/keeper.ts';
import {
  endPartitions,
  forgetKeys,
  indexPartitions,
  makePartitions,
  recogniseServer,
  vacuumQueues,
} from '#keeper/upkeep.ts';
import { lapsedBefore, LEASE_MS } from '#queue/leases.ts';
import { VERSION } from './version.ts';
import { DELIVERIES, type Parts, type ServiceDeps, type Shared } from './parts.ts';

/** A role of this process, or something that roles share and that starts and stops with them. */
export interface Role {
  start(): void;
  stop(graceMs: number): Promise<void>;
}

const POLL_MS = 1000;
/** For a statement of retention, partitions or vacuum. */
const UPKEEP_TIMEOUT_MS = 600_000;

/** The roles of this process but `api`. */
export function createRoles(deps: ServiceDeps, parts: Parts, shared: Shared): Role[] {
  const { roles } = deps.config;
  return [
    // Whoever can act on what is due looks for it.
    ...(roles.has('runner') || roles.has('keeper') ? [parts.dueRuns] : []),
    ...(roles.has('courier') || roles.has('keeper') ? [parts.dueDeliveries] : []),
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
  const { now } = parts.clock;
  const threads = new ThreadPool({
    configFile: config.configFile,
    diagnostics: config.diagnostics,
    maxThreads: config.runnerThreads,
    onError: (error) => log.error({ err: error }, 'thread'),
  });
  const thread: HandlerWork = ({ jobType, input, context }, signal) =>
    threads.run({ type: jobType.type, input, context }, signal);
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

function createCourier({ config, log, secretKeys: keys }: ServiceDeps, parts: Parts): Role {
  const { courierConcurrency: concurrency, callbackSchedule: schedule, callbackTimeoutMs: timeoutMs } = config;
  const { endpointConcurrency } = config;
  const { dueDeliveries } = parts;
  const dueAt = (at: number) => dueDeliveries.at(at);
  const courier = new Courier({
    ...parts,
    dueAt,
    log,
    keys,
    concurrency,
    endpointConcurrency,
    schedule,
    timeoutMs,
    pollMs: POLL_MS,
  });
  parts.signals.register(DELIVERIES, courier.loop);
  return courier;
}

function createKeeper({ config, log }: ServiceDeps, parts: Parts, shared: Shared): Role {
  const rescueBefore = () => lapsedBefore(parts.clock);
  const obstacles = new Obstacles(shared.types, log);
  const { cancelGraceMs } = config;
  const rescue = { ...parts, ...shared, log, obstacles, cancelGraceMs, lapsedBefore: rescueBefore };
  // No request waits for these, and they may go through a lot.
  const db = parts.db.within(UPKEEP_TIMEOUT_MS);
  const upkeep = { ...parts, db, log };
  const rescueCallbacks = { ...parts, log, schedule: config.callbackSchedule, lapsedBefore: rescueBefore };
  const correction = new ScheduleCorrection({ ...parts, log });
  const guard = new ClockGuard({ ...parts, log });
  const byTheClock = (act: () => Promise<void>) => async () => void (parts.clock.isStrange || (await act()));
  const guarded = (destroy: () => Promise<void>) => async () => void ((await guard.mayDestroy()) && (await destroy()));
  const { retentionDays, recordRetentionDays } = config;
  const retention = new Retention({ ...parts, db, log, retentionDays, recordRetentionDays });
  // No rescue soon after a failed one: whoever was cut off together with us must have had the time to renew its leases.
  const patient = { everyMs: 5000, pauseAfterFailureMs: LEASE_MS };
  const dead = new DeadProcesses({
    ...parts,
    log,
    rescue: async (workerIds) => {
      await rescueDeliveries(rescueCallbacks, workerIds);
      await rescueRuns(rescue, workerIds);
    },
  });
  const tasks: readonly Task[] = [
    { name: 'rescue from dead processes', everyMs: 500, pauseAfterFailureMs: 1000, run: () => dead.look() },
    { name: 'rescue runs', ...patient, run: () => rescueRuns(rescue) },
    { name: 'rescue deliveries', ...patient, run: () => rescueDeliveries(rescueCallbacks) },
    { name: 'release stranded deliveries', everyMs: 30_000, run: () => releaseStranded(rescueCallbacks) },
    { name: 'expire jobs', everyMs: 1000, run: byTheClock(() => expireJobs(rescue)) },
    { name: 'fire schedules', everyMs: 1000, run: byTheClock(() => fireSchedules(rescue, parts.clock.now())) },
    { name: 'correct schedules', everyMs: 5000, run: () => correction.run() },
    { name: 'note overdue', everyMs: 10_000, run: byTheClock(() => noteOverdueSchedules(rescue, parts.clock.now())) },
    { name: 'revive schedules', everyMs: 60_000, run: byTheClock(() => reviveSchedules(rescue, parts.clock.now())) },
    { name: 'move strays', everyMs: 60_000, run: () => moveStrays(rescue) },
    { name: 'forget idempotency keys', everyMs: 60_000, run: guarded(() => forgetKeys(upkeep)) },
    { name: 'retire jobs', everyMs: 5000, run: guarded(() => retention.run()) },
    { name: 'vacuum queues', everyMs: 3000, run: () => vacuumQueues(upkeep) },
    { name: 'recognise server', everyMs: 5000, run: () => recogniseServer(upkeep) },
    { name: 'index partitions', everyMs: 60_000, run: () => indexPartitions(upkeep) },
    { name: 'make partitions', everyMs: 3_600_000, run: () => makePartitions(upkeep) },
    { name: 'drop partitions', everyMs: 3_600_000, run: guarded(() => endPartitions(upkeep, recordRetentionDays)) },
  ];
  return new Keeper({ tasks, log });
}
