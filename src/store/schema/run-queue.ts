import { sql } from 'drizzle-orm';
import { check, index, integer, primaryKey, smallint, text } from 'drizzle-orm/pg-core';
import type { AccountId, JobId, RunId, ScheduleId } from '#domain/ids.ts';
import { QUEUE_ITEM_STATES } from '#domain/queue-item.ts';
import { RUN_HOLDERS } from '#domain/run-holder.ts';
import { bytes, idColumn, moment, oneOf, ringback } from './columns.ts';

/**
 * The jobs that have not ended: waiting for a run, or leased by whoever runs them. A row goes when its job ends, so
 * that the cost of a claim does not grow with history.
 */
export const runQueue = ringback.table(
  'run_queue',
  {
    accountId: idColumn<AccountId>('account_id').notNull(),
    jobId: idColumn<JobId>('job_id').notNull(),
    type: text().notNull(),
    /** Which workers take it: see `jobs/type/job-types.ts`. */
    pool: text().notNull(),
    state: text({ enum: QUEUE_ITEM_STATES }).notNull(),
    priority: smallint().notNull(),
    /** For one run: what the job type and the submission make of it. */
    timeoutMs: integer('timeout_ms').notNull(),
    /** Of which schedule it is, if any: tells it that a job of its has yet to end. */
    scheduleId: idColumn<ScheduleId>('schedule_id'),
    dueAt: moment('due_at').notNull(),
    /** Not started by then, it is not started any more; null once it was. */
    expiresAt: moment('expires_at'),
    /** The fence: whoever writes for the run must name it. */
    runId: idColumn<RunId>('run_id'),
    workerId: text('worker_id'),
    heldBy: text('held_by', { enum: RUN_HOLDERS }),
    /** By the later of the database's clock and the holder's; at the deadline the run's own time is up. */
    leaseExpiresAt: moment('lease_expires_at'),
    deadlineAt: moment('deadline_at'),
    cancelRequestedAt: moment('cancel_requested_at'),
    /** SHA-256 of the token with which a back end tells the end of its run. */
    completionHash: bytes('completion_hash'),
    /** The upload that may store the run's result: of several the one that began last. */
    uploadId: text('upload_id'),
  },
  (table) => [
    primaryKey({ name: 'run_queue_pkey', columns: [table.accountId, table.jobId] }),
    // A lane is what an account has waiting in a pool; claims hop from lane to lane, then take from the front of each.
    index('run_queue_ready')
      .on(table.pool, table.accountId, table.priority.desc().nullsFirst(), table.dueAt, table.jobId)
      .where(sql.raw("state = 'ready'")),
    index('run_queue_delayed').on(table.dueAt).where(sql.raw("state = 'delayed'")),
    index('run_queue_leased').on(table.pool, table.accountId).where(sql.raw("state = 'leased'")),
    index('run_queue_expiring').on(table.expiresAt).where(sql.raw('expires_at IS NOT NULL')),
    index('run_queue_schedule').on(table.accountId, table.scheduleId).where(sql.raw('schedule_id IS NOT NULL')),
    index('run_queue_completion').on(table.completionHash).where(sql.raw('completion_hash IS NOT NULL')),
    check('run_queue_state', oneOf('state', QUEUE_ITEM_STATES)),
    check('run_queue_held_by', oneOf('held_by', RUN_HOLDERS)),
    check(
      'run_queue_lease',
      sql.raw(
        "num_nulls(run_id, worker_id, held_by, lease_expires_at, deadline_at) = CASE WHEN state = 'leased' THEN 0 ELSE 5 END",
      ),
    ),
    check('run_queue_completion_held', sql.raw("completion_hash IS NULL OR state = 'leased'")),
    check('run_queue_upload_held', sql.raw("upload_id IS NULL OR state = 'leased'")),
  ],
);
