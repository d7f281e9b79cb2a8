/** The life of a job. Once started it stays `in_progress`, retries included, until it ends. */
export const JOB_STATUSES = ['queued', 'in_progress', 'succeeded', 'failed', 'canceled', 'expired'] as const;
export type JobStatus = (typeof JOB_STATUSES)[number];

export const JOB_TRANSITIONS = {
  queued: ['in_progress', 'canceled', 'expired'],
  in_progress: ['in_progress', 'succeeded', 'failed', 'canceled'],
  succeeded: [],
  failed: [],
  canceled: [],
  expired: [],
} as const satisfies Record<JobStatus, readonly JobStatus[]>;

/** Statuses that nothing follows. */
export const FINAL_JOB_STATUSES = ['succeeded', 'failed', 'canceled', 'expired'] as const satisfies JobStatus[];
export type FinalJobStatus = (typeof FINAL_JOB_STATUSES)[number];

export function isFinal(status: JobStatus): status is FinalJobStatus {
  return JOB_TRANSITIONS[status].length === 0;
}

/** One try at executing a job. `released` was given back unharmed on shutdown; `lost` had its worker die. */
export const ENDED_RUN_STATUSES = ['succeeded', 'failed', 'timed_out', 'lost', 'released', 'canceled'] as const;
export type EndedRunStatus = (typeof ENDED_RUN_STATUSES)[number];
export const RUN_STATUSES = ['in_progress', ...ENDED_RUN_STATUSES] as const;

/** Facts about a job, in the order they may occur. */
export const FINAL_JOB_EVENT_TYPES = ['job.succeeded', 'job.failed', 'job.canceled', 'job.expired'] as const;
export type FinalJobEventType = (typeof FINAL_JOB_EVENT_TYPES)[number];
/** What a callback can tell of. `job.progress` goes on record only where somebody is to be told. */
export const CALLBACK_EVENT_TYPES = ['job.queued', 'job.started', 'job.progress', ...FINAL_JOB_EVENT_TYPES] as const;
export type CallbackEventType = (typeof CALLBACK_EVENT_TYPES)[number];
/** `job.retrying`: a run ended without ending the job, and another will follow. */
export const JOB_EVENT_TYPES = [...CALLBACK_EVENT_TYPES, 'job.retrying'] as const;
export type JobEventType = (typeof JOB_EVENT_TYPES)[number];

/** Why a job or a run failed, as clients and auditors see it. */
export interface JobError {
  /** Stable, lower snake case. A remote worker or a back end may bring its own. */
  readonly code: JobErrorCode | (string & {});
  readonly message: string;
}

export const JOB_ERROR_CODES = [
  'handler_error',
  'timeout',
  'invalid_input',
  'invalid_output',
  'result_too_large',
  'worker_lost',
  'end_not_stored',
  'unknown_job_type',
  'backend_rejected',
  'backend_unavailable',
  'backend_invalid',
  'canceled',
  'expired',
] as const;
export type JobErrorCode = (typeof JOB_ERROR_CODES)[number];

export interface JobProgress {
  /** 0 to 100. */
  readonly percent: number;
  readonly message?: string;
}

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type JobLogLevel = (typeof LOG_LEVELS)[number];
