import { mintSecret } from '#domain/endpoint.ts';
import { type AccountId, newId, type ScheduleId } from '#domain/ids.ts';
import { type Result, refuse } from '#domain/problem.ts';
import type { SecretKey } from '#domain/secret-box.ts';
import type { Database, Transaction } from '#store/database.ts';
import { ensureEndpoint } from '#store/endpoints.ts';
import { insertJobs, type JobRecord } from '#store/jobs.ts';
import {
  deleteSchedule,
  findSchedule,
  insertSchedule,
  type ListedSchedule,
  listSchedules,
  lockSchedule,
  noteTrigger,
  type ScheduleRecord,
  updateSchedule,
} from '#store/schedules.ts';
import type { Admission } from '../submit/admission.ts';
import type { CallbackRequest, CallbackTarget, CallbackTargets } from '../submit/callback-targets.ts';
import { nextTimes, parseCron } from './cron.ts';
import type { JobTypes } from '../type/job-types.ts';
import {
  changedSchedule,
  type NewSchedule,
  newSchedule,
  pausedSchedule,
  resumedSchedule,
  type ScheduleChanges,
} from './schedule-request.ts';
import { belowJob, toScheduledJob } from './scheduled-job.ts';
import { recordOf, toStorableJob, viewSubmitted } from '../submit/submission.ts';

export type { ListedSchedule, ScheduleRecord };

export interface SavedSchedule {
  readonly schedule: ScheduleRecord;
  /** Only when its callback's endpoint was made now. */
  readonly signingSecret: string | undefined;
}

export interface SchedulesDeps {
  readonly db: Database;
  readonly types: JobTypes;
  readonly targets: CallbackTargets;
  readonly keys: readonly SecretKey[];
  readonly admission: Pick<Admission, 'admit'>;
  /** Called after the commit of a job that is ready in that pool. */
  readonly publicUrl: string;
  readonly announceRuns: (pool: string) => void;
  readonly announceDeliveries: () => void;
  /** Called after the commit of a job, for who follows the events of its account. */
  readonly eventsWritten: (accountIds: readonly AccountId[]) => void;
}

/** It may be changed or fire between a look and the write that follows it: then it is looked at again. */
const MAX_LOOKS = 20;
const TIMES_SHOWN = 5;

/** Schedules as their account sees them; `fire-schedules.ts` acts on them. */
export class Schedules {
  readonly #deps: SchedulesDeps;

  constructor(deps: SchedulesDeps) {
    this.#deps = deps;
  }

  /** Makes a schedule. Its job is checked as a submission is, so that none is accepted that could not run. */
  async create(accountId: AccountId, request: NewSchedule, now: Date): Promise<Result<SavedSchedule>> {
    const made = newSchedule(accountId, request, now);
    if (!made.ok) return made;
    const schedule = made.value;
    const target = await this.#check(schedule, request.job.callback, now);
    if (!target.ok) return target;
    const saved = await this.#deps.db.transaction(async (tx) => {
      // Before the endpoint: one that is made for a name that is taken would lose its secret.
      if (!(await insertSchedule(tx, schedule))) return undefined;
      if (target.value === undefined) return { schedule, signingSecret: undefined };
      return this.#save(tx, schedule, target.value, now);
    });
    return saved === undefined ? this.#nameTaken(accountId, request.name) : { ok: true, value: saved };
  }

  async find(accountId: AccountId, id: ScheduleId): Promise<Result<ScheduleRecord>> {
    const schedule = await findSchedule(this.#deps.db, accountId, { id });
    return schedule === undefined ? notFound(id) : { ok: true, value: schedule };
  }

  list(accountId: AccountId, page: { after: ScheduleId | undefined; limit: number }): Promise<ListedSchedule[]> {
    return listSchedules(this.#deps.db, accountId, page);
  }

  /** Changes what is given, and nothing when any of it is wrong. */
  change(accountId: AccountId, id: ScheduleId, changes: ScheduleChanges, now: Date): Promise<Result<SavedSchedule>> {
    const change = (before: ScheduleRecord) => changedSchedule(before, changes, now);
    return this.#replace(accountId, id, { change, callback: changes.job?.callback, now });
  }

  /** Fires no more until it is resumed. May be asked again. */
  pause(accountId: AccountId, id: ScheduleId, now: Date): Promise<Result<SavedSchedule>> {
    const change = (before: ScheduleRecord) => ({ ok: true as const, value: pausedSchedule(before) });
    // What a process cannot run is the first thing that somebody would pause.
    return this.#replace(accountId, id, { change, now, isUnchecked: true });
  }

  /** Goes on with the first time after now; those that passed meanwhile are not made up for. May be asked again. */
  resume(accountId: AccountId, id: ScheduleId, now: Date): Promise<Result<SavedSchedule>> {
    const change = (before: ScheduleRecord) => resumedSchedule(before, now);
    return this.#replace(accountId, id, { change, now });
  }

  /** Its jobs stay. */
  async remove(accountId: AccountId, id: ScheduleId): Promise<Result<undefined>> {
    const removed = await deleteSchedule(this.#deps.db, accountId, id);
    return removed ? { ok: true, value: undefined } : notFound(id);
  }

  /** Submits one job now, paused or not, whatever else of it runs. The next time stays. Limited as any submission. */
  async trigger(accountId: AccountId, id: ScheduleId, now: Date): Promise<Result<JobRecord>> {
    const { db, types, targets, admission, publicUrl, announceRuns, announceDeliveries, eventsWritten } = this.#deps;
    const schedule = await this.find(accountId, id);
    if (!schedule.ok) return schedule;
    const made = await toScheduledJob(types, schedule.value, { now, scheduledFor: null });
    if (!made.ok) return made;
    const { callbackEndpointId } = made.value;
    const notAllowed = callbackEndpointId && (await targets.refusalOf(accountId, callbackEndpointId));
    if (notAllowed) return belowJob(notAllowed);
    const refusal = await admission.admit(accountId);
    if (refusal !== undefined) return refusal;
    const job = made.value;
    const stored = await db.transaction(async (tx) => {
      if (!(await noteTrigger(tx, { accountId, id, jobId: job.id, now }))) return undefined;
      const { isToTell } = await insertJobs(tx, [toStorableJob(job, viewSubmitted(job, publicUrl))]);
      return { isToTell };
    });
    if (stored === undefined) return notFound(id);
    if (stored.isToTell) announceDeliveries();
    announceRuns(job.pool);
    eventsWritten([accountId]);
    return { ok: true, value: recordOf(job) };
  }

  /** The next times of a schedule; none while it is paused. */
  upcoming({ cron: expression, timeZone, nextFireAt }: ScheduleRecord): Date[] {
    const cron = parseCron(expression, timeZone);
    if (!cron.ok || nextFireAt === null) return [];
    return [nextFireAt, ...nextTimes(cron.value, nextFireAt, TIMES_SHOWN - 1)];
  }

  /** The job is one that could be submitted now; answers where the callback goes, if there is one to be found. */
  async #check(
    schedule: ScheduleRecord,
    callback: CallbackRequest | null | undefined,
    now: Date,
  ): Promise<Result<CallbackTarget | undefined>> {
    const { types, targets } = this.#deps;
    const made = await toScheduledJob(types, schedule, { now, scheduledFor: null });
    if (!made.ok) return made;
    if (callback === undefined || callback === null) return { ok: true, value: undefined };
    const target = await targets.find(schedule.accountId, callback);
    return target.ok ? target : belowJob(target);
  }

  /** Reads, changes, and writes if nobody has written meanwhile. */
  async #replace(
    accountId: AccountId,
    id: ScheduleId,
    { change, callback, now, isUnchecked }: Replacement,
  ): Promise<Result<SavedSchedule>> {
    for (let look = 0; look < MAX_LOOKS; look++) {
      const found = await this.find(accountId, id);
      if (!found.ok) return found;
      const before = found.value;
      const changed = change(before);
      if (!changed.ok) return changed;
      if (changed.value === before) return { ok: true, value: { schedule: before, signingSecret: undefined } };
      const target = isUnchecked
        ? { ok: true as const, value: undefined }
        : await this.#check(changed.value, callback, now);
      if (!target.ok) return target;
      // Never back, so that it tells any two versions apart.
      const updatedAt = new Date(Math.max(now.getTime(), before.updatedAt.getTime() + 1));
      const saved = await this.#deps.db.transaction(async (tx) => {
        if (!(await lockSchedule(tx, before))) return undefined;
        return this.#save(tx, { ...changed.value, updatedAt }, target.value, now);
      });
      if (saved !== undefined) return { ok: true, value: saved };
    }
    throw new Error(`schedule ${id} changed ${MAX_LOOKS} times while it was being changed`);
  }

  /** Writes it. The first callback to a URL makes the endpoint in the same transaction, so that its secret is not lost. */
  async #save(
    tx: Transaction,
    schedule: ScheduleRecord,
    target: CallbackTarget | undefined,
    now: Date,
  ): Promise<SavedSchedule> {
    if (target === undefined) {
      await updateSchedule(tx, schedule);
      return { schedule, signingSecret: undefined };
    }
    const { accountId } = schedule;
    const { url, endpointId } = target;
    const id = newId('ep', now.getTime());
    const secret = mintSecret(this.#deps.keys, accountId, id, now);
    const endpoint =
      endpointId === undefined
        ? await ensureEndpoint(tx, { accountId, id, url, isRegistered: false, secret: secret.sealed, now })
        : { id: endpointId, created: false };
    const saved = { ...schedule, callbackEndpointId: endpoint.id, callbackUrl: url };
    await updateSchedule(tx, saved);
    return { schedule: saved, signingSecret: endpoint.created ? secret.text : undefined };
  }

  async #nameTaken(accountId: AccountId, name: string): Promise<Result<never>> {
    const other = await findSchedule(this.#deps.db, accountId, { name });
    const detail = `There is a schedule called ${JSON.stringify(name)} already. Change that one, or take another name.`;
    return refuse('schedule_name_taken', detail, { ...(other && { extra: { schedule_id: other.id } }) });
  }
}

interface Replacement {
  /** Answers the very row it was given when there is nothing to change. */
  readonly change: (before: ScheduleRecord) => Result<ScheduleRecord>;
  readonly callback?: CallbackRequest | null | undefined;
  readonly now: Date;
  /** Its job need not be one that could be submitted now. */
  readonly isUnchecked?: boolean;
}

function notFound(id: ScheduleId): Result<never> {
  return refuse('schedule_not_found', `There is no schedule ${id}.`);
}
