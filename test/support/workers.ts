import { onTestFinished } from 'vitest';
import { parseCidr } from '#domain/address.ts';
import type { EgressPolicy } from '#domain/callback-url.ts';
import { newId } from '#domain/ids.ts';
import { createGuard } from '#egress/guard.ts';
import { createSender } from '#egress/send.ts';
import type { Queues } from '#queue/queues.ts';
import { Courier, type CourierDeps } from '../../src/callbacks/courier.ts';
import type { AnyJobDefinition } from '../../src/jobs/define.ts';
import { JobTypes } from '../../src/jobs/job-types.ts';
import { Runner, type RunnerDeps } from '../../src/jobs/runner.ts';
import { Submitter } from '../../src/jobs/submit.ts';
import type { TestDatabase } from './database.ts';
import { SECRET_KEYS } from './fixtures.ts';
import { type LogLine, memoryLog } from './log.ts';

/** The workers of the service, one at a time, in the process of the test: wired as `service.ts` does it. */

export const ALLOW_LOOPBACK: EgressPolicy = {
  allow: [parseCidr('127.0.0.0/8')!],
  allowHttp: false,
  ports: [443, 8443],
};
export const ALLOW_NOTHING: EgressPolicy = { ...ALLOW_LOOPBACK, allow: [] };

export const PUBLIC_URL = 'https://ringback.test';

export interface Started<Worker> {
  readonly worker: Worker;
  readonly lines: readonly LogLine[];
  /** How often it announced that it had queued something. */
  readonly announced: () => number;
}

interface Parts {
  readonly database: TestDatabase;
  readonly queues: Queues;
}

/** Starts a runner that knows these job types; stopped, without grace, with the test. */
export function startRunner(
  { database, queues }: Parts,
  jobs: readonly AnyJobDefinition[],
  changes: Partial<RunnerDeps> = {},
): Started<Runner> {
  const { log, lines } = memoryLog();
  let announced = 0;
  const worker = new Runner({
    db: database.db,
    queues,
    types: new JobTypes(jobs),
    workerId: newId('wrk', Date.now()),
    log,
    publicUrl: PUBLIC_URL,
    concurrency: 10,
    pollMs: 50,
    announceDeliveries: () => void announced++,
    ...changes,
  });
  onTestFinished(() => worker.stop(0));
  worker.start();
  return { worker, lines, announced: () => announced };
}

/** Starts a courier that may reach loopback; stopped with the test. */
export function startCourier(
  { database, queues }: Parts,
  changes: Partial<CourierDeps> & { readonly policy?: EgressPolicy } = {},
): Started<Courier> {
  const { log, lines } = memoryLog();
  const { policy = ALLOW_LOOPBACK, ...others } = changes;
  const sender = createSender({ policy, userAgent: 'Ringback/test' });
  const worker = new Courier({
    db: database.db,
    queues,
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
    await worker.stop(10_000);
    await sender.close();
  });
  worker.start();
  return { worker, lines, announced: () => 0 };
}

/** A submitter that knows these job types and accepts callbacks to loopback. */
export function makeSubmitter(
  { database, queues }: Parts,
  jobs: readonly AnyJobDefinition[],
  announce: () => void = () => {},
): Submitter {
  return new Submitter({
    db: database.db,
    queues,
    types: new JobTypes(jobs),
    guard: createGuard({ policy: ALLOW_LOOPBACK }),
    keys: SECRET_KEYS,
    announce,
  });
}
