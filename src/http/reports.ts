import { toCleanText } from '#domain/json.ts';
import type { JobProgress } from '#domain/job.ts';
import type { ReportedFailure } from '#jobs/remote/run-reports.ts';

const MAX_PROGRESS_MESSAGE = 500;
const MAX_ERROR_MESSAGE = 2000;

/** Texts of workers and back ends are cut, not refused: what they say is no reason to fail a run. */
export function toProgress({ percent, message }: { percent: number; message?: string | undefined }): JobProgress {
  return message === undefined ? { percent } : { percent, message: toCleanText(message, MAX_PROGRESS_MESSAGE) };
}

export function toFailure(given: {
  error: { code: string; message: string };
  retryable: boolean;
  retry_after_s?: number | undefined;
}): ReportedFailure {
  const { error, retryable, retry_after_s: retryAfter } = given;
  return {
    error: { code: error.code, message: toCleanText(error.message, MAX_ERROR_MESSAGE) },
    retryable,
    retryAfterMs: retryAfter === undefined ? null : retryAfter * 1000,
  };
}
