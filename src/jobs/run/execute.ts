import type { JobError } from '#domain/job.ts';

/** Why a run stopped before its work had an outcome. */
export type Stopped =
  | { readonly kind: 'timed_out'; readonly error: JobError }
  /** Given back unharmed: the worker shuts down. */
  | { readonly kind: 'released' }
  /** Its client called it off. */
  | { readonly kind: 'canceled' }
  /** Somebody else has the job by now: what this run says would be refused. */
  | { readonly kind: 'superseded' };

/** What ends a run from outside: each aborts with its own kind of ending. */
export interface Stops {
  /** Aborts when the process shuts down and will not wait any longer. */
  readonly shutdown: AbortSignal;
  /** Aborts when the lease was lost: another worker runs the job. */
  readonly leaseLost: AbortSignal;
  /** Aborts when the client cancels the job. */
  readonly canceled: AbortSignal;
}

export interface ExecuteOptions {
  readonly timeoutMs: number;
  /** How long a handler that is told of a cancel may take to stop, in milliseconds. */
  readonly cancelGraceMs: number;
  readonly stops: Stops;
}

/**
 * Runs work once, to an outcome; never throws. On timeout, shutdown and loss of the lease the signal aborts and the
 * outcome stands at once: work that does not listen keeps running, but nobody waits for it. A cancel is cooperative
 * first: what ends well within the grace has ended well; what fails or takes longer is canceled.
 * @param work must not reject
 */
export async function execute<Outcome extends { readonly kind: string }>(
  work: (signal: AbortSignal) => Promise<Outcome>,
  { timeoutMs, cancelGraceMs, stops }: ExecuteOptions,
): Promise<Outcome | Stopped> {
  const { shutdown, leaseLost, canceled } = stops;
  if (leaseLost.aborted) return { kind: 'superseded' };
  if (canceled.aborted) return { kind: 'canceled' };
  if (shutdown.aborted) return { kind: 'released' };
  const abort = new AbortController();
  const { promise: stopped, resolve: stop } = Promise.withResolvers<Stopped>();
  let grace: NodeJS.Timeout | undefined;

  const timer = setTimeout(() => {
    const message = `The run took longer than ${timeoutMs} ms.`;
    stop({ kind: 'timed_out', error: { code: 'timeout', message } });
    abort.abort(new DOMException(message, 'TimeoutError'));
  }, timeoutMs);
  const onShutdown = () => {
    stop({ kind: 'released' });
    abort.abort(new DOMException('The worker is shutting down.', 'AbortError'));
  };
  const onLeaseLost = () => {
    stop({ kind: 'superseded' });
    abort.abort(new DOMException('The lease was lost: another worker runs the job.', 'AbortError'));
  };
  const onCanceled = () => {
    grace = setTimeout(stop, cancelGraceMs, { kind: 'canceled' });
    abort.abort(new DOMException('The job was canceled.', 'AbortError'));
  };
  shutdown.addEventListener('abort', onShutdown);
  leaseLost.addEventListener('abort', onLeaseLost);
  canceled.addEventListener('abort', onCanceled);
  try {
    const outcome = await Promise.race([work(abort.signal), stopped]);
    // Told to stop, it did: that it then failed is no failure.
    return outcome.kind === 'failed' && canceled.aborted ? { kind: 'canceled' } : outcome;
  } finally {
    clearTimeout(timer);
    clearTimeout(grace);
    // The shutdown's signal outlives the run by far: what listens to it would pile up.
    shutdown.removeEventListener('abort', onShutdown);
    leaseLost.removeEventListener('abort', onLeaseLost);
    canceled.removeEventListener('abort', onCanceled);
  }
}
