import type { Config } from './config.ts';
import { letFollow } from '#callbacks/advance.ts';
import { Redelivery } from '#callbacks/redelivery.ts';
import { promoteDeliveries } from '#callbacks/rescue.ts';
import { type AccountId, type JobId, newId } from '#domain/ids.ts';
import type { ClockNews } from '#domain/steady-clock.ts';
import type { SecretKey } from '#domain/secret-box.ts';
import { createGuard } from '#egress/guard.ts';
import { systemResolver } from '#egress/resolve.ts';
import { createSender } from '#egress/send.ts';
import { RunningLimits } from '#jobs/run/account-limits.ts';
import { Endings } from '#jobs/run/endings.ts';
import { promoteRuns } from '#jobs/run/promote-runs.ts';
import { FeedWatch } from '#jobs/feed/feed-watch.ts';
import type { RunTeller } from '#jobs/run/run-teller.ts';
import type { JobTypes } from '#jobs/type/job-types.ts';
import { JobWatch } from '#jobs/wait/job-watch.ts';
import { ResultKeeper } from '#jobs/run/result-keeper.ts';
import { TypeStats } from '#jobs/wait/type-stats.ts';
import type { Logger } from './log.ts';
import { EventChanges } from '#queue/event-changes.ts';
import { JobChanges } from '#queue/job-changes.ts';
import { DueWork } from '#queue/due-work.ts';
import { Presence } from '#queue/presence.ts';
import { Signals } from '#queue/signals.ts';
import { openDatabase } from '#store/database.ts';
import { DatabaseClock } from '#store/database-clock.ts';
import { Listener } from '#store/listener.ts';
import { lockPresence, recordDeparture, recordPresence } from '#store/processes.ts';
import type { JobRef } from '#store/run-queue.ts';
import { VERSION } from './version.ts';

/** What the configuration leaves to the way the service is started: an embedded database, or one that is given. */
export interface ServiceDeps {
  readonly config: Config;
  readonly log: Logger;
  readonly database: { readonly url: string; readonly direct: string; readonly pooled: boolean };
  readonly secretKeys: readonly SecretKey[];
  readonly bootstrapKey: string | undefined;
}

/** Under which name deliveries that are due are announced. */
export const DELIVERIES = 'deliveries';

const NOTHING_DUE = Promise.resolve(0);

/** A clock that jumps is the operator's business: docs/guides/clocks.md says what to do. */
function logNews(log: Logger, { kind, ...news }: ClockNews): void {
  const level = kind === 'jumped' || kind === 'adopted' ? 'error' : 'warn';
  log[level](
    {
      clock: kind,
      ...('byMs' in news && { by_ms: Math.round(news.byMs) }),
      ...('believedInMs' in news && { believed_in_ms: Math.round(news.believedInMs) }),
    },
    CLOCK_NEWS[kind],
  );
}

const CLOCK_NEWS = {
  jumped: "the database's clock has jumped; time goes on as before unless it stays there",
  returned: "the database's clock is back where it was",
  adopted: "the database's clock has stayed where it jumped to, and is believed",
  resumed: "this machine was suspended; its time is the database's again",
} as const satisfies Record<ClockNews['kind'], string>;

/** What every role shares. */
export async function openParts({ config, log, database }: ServiceDeps) {
  const onError = (error: unknown) => log.error({ err: error }, 'queue');
  const { url, direct, pooled } = database;
  const db = openDatabase({ url, applicationName: 'ringback', max: config.databaseConnections, pooled });
  const clock = await DatabaseClock.open({ db, onNews: (news) => logNews(log, news) });
  const workerId = newId('wrk', clock.now().getTime());
  const listener = new Listener({ url: direct, applicationName: 'ringback-listen', onError });
  const signals = new Signals(db, listener, workerId, onError);
  const presence = new Presence({
    lock: () => listener.prepare((sql) => lockPresence(sql, workerId)),
    beat: () => recordPresence(db, workerId),
    depart: () => recordDeparture(db, workerId),
    onError,
  });
  const announceRuns = (pool: string) => signals.announce(`pool:${pool}`);
  const announceDeliveries = () => signals.announce(DELIVERIES);
  const advanceJobs = (jobIds: readonly JobId[]) => {
    // What fails is seen to by a keeper.
    void letFollow({ db, clock, announceDeliveries }, jobIds).catch(onError);
  };
  const dueRuns = new DueWork({
    clock,
    promote: (limit) => (clock.isStrange ? NOTHING_DUE : promoteRuns({ db, clock, announceRuns }, limit)),
    onError,
  });
  const dueDeliveries = new DueWork({
    clock,
    promote: (limit) => (clock.isStrange ? NOTHING_DUE : promoteDeliveries({ db, clock, announceDeliveries }, limit)),
    onError,
  });
  const dueAt = (at: number) => dueRuns.at(at);
  const changesDeps = { db, listener, instance: workerId, onError };
  const changes = new JobChanges(changesDeps);
  const eventChanges = new EventChanges(changesDeps);
  const eventsWritten = (accountIds: readonly AccountId[]) => eventChanges.publish(accountIds);
  const jobsChanged = (jobs: readonly JobRef[]) => {
    changes.publish(jobs);
    eventsWritten(jobs.map(({ accountId }) => accountId));
  };
  const stats = new TypeStats({ db, onError });
  const ran = (type: string, ms: number) => stats.ran(type, ms);
  const resolve = systemResolver();
  return {
    workerId,
    clock,
    db,
    presence,
    signals,
    changes,
    eventChanges,
    watch: new JobWatch({ db, changes, onError }),
    feedWatch: new FeedWatch({ db, changes: eventChanges, onError }),
    dueRuns,
    dueDeliveries,
    dueAt,
    jobsChanged,
    eventsWritten,
    announceRuns,
    announceDeliveries,
    advanceJobs,
    runningLimits: new RunningLimits({ db, maxRunning: config.accountLimits.maxRunning, onError }),
    endings: new Endings({ db, listeners: { announceDeliveries, advanceJobs, announceRuns, dueAt, jobsChanged, ran } }),
    results: new ResultKeeper(db, config.results, onError),
    redelivery: new Redelivery({ db, clock, announceDeliveries, advanceJobs }),
    guard: createGuard({ policy: config.egress, resolve }),
    sender: createSender({
      policy: config.egress,
      ...config.egressWay,
      resolve,
      now: clock.now,
      userAgent: `Ringback/${VERSION}`,
    }),
    close: async () => {
      await Promise.all([changes.close(), eventChanges.close(), stats.close(), presence.stop(), clock.close()]);
      await Promise.all([listener.close(), db.close()]);
    },
  };
}

export type Parts = Awaited<ReturnType<typeof openParts>>;

/** What is known once the configuration file is loaded and the API listens. */
export interface Shared {
  readonly types: JobTypes;
  readonly publicUrl: string;
  readonly teller: RunTeller;
}
