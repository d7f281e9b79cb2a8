/**
 * Who holds a run's lease. A `runner` renews it while its handler works; a `worker` renews it over HTTP; a `backend`
 * answered 202 and renews nothing: its lease lasts as long as it may take.
 */
export const RUN_HOLDERS = ['runner', 'worker', 'backend'] as const;
export type RunHolder = (typeof RUN_HOLDERS)[number];
