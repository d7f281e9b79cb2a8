import { ApiKeys } from '#accounts/api-keys.ts';
import { DeliveryLists } from '#callbacks/delivery-lists.ts';
import { DeliveryQueries } from '#callbacks/delivery-queries.ts';
import { Endpoints } from '#callbacks/endpoints.ts';
import { Pings } from '#callbacks/ping.ts';
import { Registration } from '#callbacks/registration.ts';
import { Secrets } from '#callbacks/secrets.ts';
import { Verification } from '#callbacks/verification.ts';
import { createApp } from '#http/app.ts';
import { Admission } from '#jobs/submit/admission.ts';
import { CallbackTargets } from '#jobs/submit/callback-targets.ts';
import { Canceler } from '#jobs/run/cancel.ts';
import { Completions } from '#jobs/backend/completions.ts';
import { EventFeed } from '#jobs/feed/event-feed.ts';
import { JobEvents } from '#jobs/wait/job-events.ts';
import { JobLists } from '#jobs/read/job-lists.ts';
import { JobLogs } from '#jobs/read/job-log.ts';
import { JobQueries } from '#jobs/read/job-queries.ts';
import { RemoteWorkers } from '#jobs/remote/remote-workers.ts';
import { PollEstimate } from '#jobs/wait/poll-estimate.ts';
import { QueueDepth } from '#jobs/submit/queue-depth.ts';
import { RunReports } from '#jobs/remote/run-reports.ts';
import { Schedules } from '#jobs/schedule/schedules.ts';
import { Submitter } from '#jobs/submit/submit.ts';
import type { Signals } from '#queue/signals.ts';
import { isOutcomeUnknown } from '#store/database.ts';
import { isTransient } from '#store/transient.ts';
import { VERSION } from './version.ts';
import type { Parts, ServiceDeps, Shared } from './parts.ts';

/** Who work for us over HTTP: any process with the API may be asked for runs. */
export function createRemoteWorkers({ log }: ServiceDeps, parts: Parts, shared: Shared): RemoteWorkers {
  const register: Signals['register'] = (pool, sleeper) => parts.signals.register(`pool:${pool}`, sleeper);
  return new RemoteWorkers({ ...parts, ...shared, log, accountLimits: parts.runningLimits, register });
}

interface ApiShared extends Shared {
  readonly remoteWorkers: RemoteWorkers;
}

export function createApi({ config, log, secretKeys: keys }: ServiceDeps, parts: Parts, shared: ApiShared) {
  const { db, clock, guard } = parts;
  const targets = new CallbackTargets({ db, guard });
  const onError = (error: unknown) => log.error({ err: error }, 'waiting');
  const { submissionsPerSecond: perSecond, maxPending } = config.accountLimits;
  const depth = new QueueDepth({ db, max: config.maxQueued, onError });
  const admission = new Admission({ db, defaults: { perSecond, maxPending }, depth, onError });
  const polls = new PollEstimate({ db, types: shared.types, onError });
  const jobs = new JobQueries({ db, clock, polls });
  const submitter = new Submitter({ ...parts, ...shared, keys, targets, admission });
  const probing = { ...parts, log, keys, timeoutMs: config.callbackTimeoutMs };
  return createApp({
    ...shared,
    clock,
    submitter,
    admission,
    schedules: new Schedules({ ...parts, ...shared, keys, targets, admission }),
    jobs,
    logs: new JobLogs(db, jobs),
    lists: new JobLists({ db, clock }),
    watch: parts.watch,
    polls,
    events: new JobEvents({ db, watch: parts.watch, onError }),
    feed: new EventFeed({ db, clock, watch: parts.feedWatch, onError }),
    canceler: new Canceler({ ...parts, ...shared, signalCancel: (jobId) => parts.signals.cancel(jobId) }),
    workerReports: new RunReports({ ...parts, ...shared, log, holders: ['worker'] }),
    completions: new Completions({ ...parts, ...shared, log }),
    deliveries: new DeliveryQueries(db),
    deliveryLists: new DeliveryLists(db),
    endpoints: new Endpoints(parts),
    registration: new Registration({ ...parts, keys, verification: new Verification(probing) }),
    secrets: new Secrets({ db, clock, keys }),
    pings: new Pings(probing),
    redelivery: parts.redelivery,
    keys: new ApiKeys(db),
    maxBodyBytes: config.maxBodyBytes,
    maxResultBytes: config.results.maxBytes,
    log,
    version: VERSION,
    isReady: () => withinPatience(submitter.probe()),
    judge: { isUnavailable: isTransient, isOutcomeUnknown },
  });
}

const READY_TIMEOUT_MS = 2000;

/** Whether it succeeds, and soon. */
async function withinPatience(probe: Promise<unknown>): Promise<boolean> {
  const { promise: tooLate, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(resolve, READY_TIMEOUT_MS, false);
  return Promise.race([
    probe.then(
      () => true,
      () => false,
    ),
    tooLate,
  ]).finally(() => clearTimeout(timer));
}
