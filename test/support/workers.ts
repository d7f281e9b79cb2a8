import { onTestFinished } from 'vitest';
import { parseCidr } from '#domain/address.ts';
import type { EgressPolicy } from '#domain/callback-url.ts';
import type { Clock } from '#domain/clock.ts';
import { type JobId, newId } from '#domain/ids.ts';
import { createGuard } from '#egress/guard.ts';
import { createSender } from '#egress/send.ts';
import { DueWork } from '#queue/due-work.ts';
import { letFollow } from '../../src/callbacks/advance.ts';
import { promoteDeliveries } from '../../src/callbacks/rescue.ts';
import { Courier, type CourierDeps } from '../../src/callbacks/courier.ts';
import { CallbackTargets } from '../../src/jobs/submit/callback-targets.ts';
import { Canceler, type CancelerDeps } from '../../src/jobs/run/cancel.ts';
import type { AnyJobDefinition } from '../../src/jobs/type/define.ts';
import { promoteRuns } from '../../src/jobs/run/promote-runs.ts';
import { Endings, type EndingListeners } from '../../src/jobs/run/endings.ts';
import { failed } from '../../src/jobs/run/handler.ts';
import { JobTypes } from '../../src/jobs/type/job-types.ts';
import type { RescueDeps } from '../../src/jobs/run/rescue.ts';
import { ResultKeeper } from '../../src/jobs/run/result-keeper.ts';
import { RunTeller, type RunTellerDeps } from '../../src/jobs/run/run-teller.ts';
import { Runner, type RunnerDeps } from '../../src/jobs/run/runner.ts';
import { Submitter, type SubmitterDeps } from '../../src/jobs/submit/submit.ts';
import { dispatchWork } from '../../src/jobs/run/work.ts';
import type { TestDatabase } from './database.ts';
import { SECRET_KEYS } from './fixtures.ts';
import { type LogLine, memoryLog } from './log.ts';

/** The workers of the service, one at a time, in the process of the test: wired as `service.ts` does it. */

export const ALLOW_LOOPBACK: EgressPolicy = {
  allow: [parseCidr('127.0.0.0/8')!],
  allowHttp: false,
  ports: [443, 8443],
};
export const REAL_CLOCK: Clock = { now: () => new Date(), random: () => Math.random() };

export const ALLOW_NOTHING: EgressPolicy = { ...ALLOW_LOOPBACK, allow: [] };

export const PUBLIC_URL = 'https://ringback.test';

/** Results of more than a megabyte are too large, so that tests of that need not be. */
export const RESULT_LIMITS = { inlineBytes: 65_536, maxBytes: 1_048_576 };

export interface Started<Worker> {
  readonly worker: Worker;
  readonly lines: readonly LogLine[];
  /** How often it announced that it had queued a delivery. */
  readonly announced: () => number;
}

interface Parts {
  readonly database: TestDatabase;
}

/** Where runs end; nobody listens unless told so. */
export function makeEndings({ database }: Parts, listeners: Partial<EndingListeners> = {}): Endings {
  const nobody = () => undefined;
  const all = { announceDeliveries: nobody, announceRuns: nobody, dueAt: nobody, jobsChanged: nobody, ...listeners };
  return new Endings({ db: database.db, listeners: { advanceJobs: advancing(database, all), ...all } });
}

/** Lets go what follows in the order of a job, as a service does. */
export function advancing(
  { db }: Pick<TestDatabase, 'db'>,
  { announceDeliveries }: { readonly announceDeliveries: () => void },
): (jobIds: readonly JobId[]) => void {
  return (jobIds) => void letFollow({ db, clock: REAL_CLOCK, announceDeliveries }, jobIds);
}

/** Who tells of runs, at once; nobody listens unless told so. */
export function makeTeller({ database }: Parts, changes: Partial<RunTellerDeps> = {}): RunTeller {
  const nobody = () => undefined;
  const deps = {
    db: database.db,
    clock: REAL_CLOCK,
    publicUrl: PUBLIC_URL,
    progressEveryMs: 0,
    announceDeliveries: nobody,
    ...changes,
  };
  return new RunTeller({
    advanceJobs: advancing(database, deps),
    jobsChanged: nobody,
    onError: (error) => {
      throw error;
    },
    ...deps,
  });
}

/** Work of types that the tests' own runner has nobody for. */
const nobodyHere = async () => failed('handler_error', 'nobody does this work here', false);

/** Starts a runner that knows these job types, and what makes its delayed runs due; stopped, without grace, with the test. */
export function startRunner(
  { database }: Parts,
  jobs: readonly AnyJobDefinition[],
  changes: Partial<RunnerDeps> = {},
): Started<Runner> {
  const { db } = database;
  const { log, lines } = memoryLog();
  let announced = 0;
  const announceRuns = (pool: string) => {
    for (const { loop, pool: served } of worker.pools) if (served === pool) loop.wake();
  };
  const dueRuns = new DueWork({
    clock: REAL_CLOCK,
    promote: (limit) => promoteRuns({ db, clock: REAL_CLOCK, announceRuns }, limit),
    onError: (error) => log.error({ err: error }, 'due runs'),
  });
  const listeners = {
    announceDeliveries: () => void announced++,
    announceRuns,
    dueAt: (at: number) => dueRuns.at(at),
  };
  const worker = new Runner({
    db,
    clock: REAL_CLOCK,
    types: new JobTypes(jobs),
    endings: makeEndings({ database }, listeners),
    results: new ResultKeeper(db, RESULT_LIMITS),
    teller: makeTeller({ database }, listeners),
    log,
    publicUrl: PUBLIC_URL,
    cancelGraceMs: 1000,
    work: dispatchWork({ thread: nobodyHere, backend: nobodyHere }),
    jobsChanged: () => undefined,
    workerId: newId('wrk', Date.now()),
    concurrency: 10,
    threads: 2,
    accountLimits: { maxRunning: null, any: () => false },
    pollMs: 50,
    ...changes,
  });
  onTestFinished(async () => {
    await Promise.all([dueRuns.stop(), worker.stop(0)]);
  });
  dueRuns.start();
  worker.start();
  return { worker, lines, announced: () => announced };
}

/** Starts a courier that may reach loopback; stopped with the test. */
export function startCourier(
  { database }: Parts,
  changes: Partial<CourierDeps> & { readonly policy?: EgressPolicy } = {},
): Started<Courier> {
  const { log, lines } = memoryLog();
  const { policy = ALLOW_LOOPBACK, clock = REAL_CLOCK, ...others } = changes;
  const sender = createSender({ policy, userAgent: 'Ringback/test', now: clock.now });
  const dueDeliveries = new DueWork({
    clock,
    promote: (limit) =>
      promoteDeliveries({ db: database.db, clock, announceDeliveries: () => worker.loop.wake() }, limit),
    onError: (error) => log.error({ err: error }, 'due deliveries'),
  });
  const worker = new Courier({
    db: database.db,
    dueAt: (at) => dueDeliveries.at(at),
    announceDeliveries: () => worker.loop.wake(),
    advanceJobs: advancing(database, { announceDeliveries: () => worker.loop.wake() }),
    clock,
    eventsWritten: () => undefined,
    endpointConcurrency: 10,
    sender,
    keys: SECRET_KEYS,
    workerId: newId('wrk', Date.now()),
    log,
    concurrency: 10,
    pollMs: 50,
    schedule: [0, 100],
    timeoutMs: 5000,
    ...others,
  });
  onTestFinished(async () => {
    await Promise.all([dueDeliveries.stop(), worker.stop(10_000)]);
    await sender.close();
  });
  dueDeliveries.start();
  worker.start();
  return { worker, lines, announced: () => 0 };
}

/** A submitter that knows these job types and accepts callbacks to loopback. */
export function makeSubmitter(
  { db }: Pick<TestDatabase, 'db'>,
  jobs: readonly AnyJobDefinition[],
  changes: Partial<SubmitterDeps> = {},
): Submitter {
  const guard = createGuard({ policy: ALLOW_LOOPBACK });
  return new Submitter({
    db,
    clock: REAL_CLOCK,
    types: new JobTypes(jobs),
    targets: new CallbackTargets({ db, guard }),
    admission: { admit: () => Promise.resolve(undefined) },
    keys: SECRET_KEYS,
    publicUrl: PUBLIC_URL,
    announceRuns: () => undefined,
    announceDeliveries: () => undefined,
    dueAt: () => undefined,
    eventsWritten: () => undefined,
    ...changes,
  });
}

/** Calls jobs off, as the API of a process does that has these job types. */
export function makeCanceler(
  parts: Parts,
  jobs: readonly AnyJobDefinition[],
  changes: Partial<CancelerDeps> = {},
): Canceler {
  return new Canceler({
    db: parts.database.db,
    clock: REAL_CLOCK,
    types: new JobTypes(jobs),
    endings: makeEndings(parts),
    publicUrl: PUBLIC_URL,
    signalCancel: () => undefined,
    jobsChanged: () => undefined,
    ...changes,
  });
}

/** What a keeper has that looks after runs of these job types. */
export function rescueDeps(
  parts: Parts,
  jobs: readonly AnyJobDefinition[],
  changes: Partial<RescueDeps> = {},
): RescueDeps & { readonly lines: readonly LogLine[] } {
  const { log, lines } = memoryLog();
  return {
    db: parts.database.db,
    clock: REAL_CLOCK,
    lapsedBefore: REAL_CLOCK.now,
    types: new JobTypes(jobs),
    endings: makeEndings(parts),
    log,
    publicUrl: PUBLIC_URL,
    cancelGraceMs: 1000,
    announceRuns: () => undefined,
    lines,
    ...changes,
  };
}
