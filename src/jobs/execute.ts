import { types } from 'node:util';
import type { JobError } from '#domain/job.ts';
import { toCleanText, toStorableJson } from '#domain/json.ts';
import { NonRetryableError } from './define.ts';
import { type JobType, validate } from './job-types.ts';

/** What a handler did with its run. */
export type RunOutcome =
  | { readonly kind: 'succeeded'; readonly output: unknown; readonly outputText: string }
  | { readonly kind: 'failed'; readonly error: JobError; readonly retryable: boolean }
  | { readonly kind: 'timed_out'; readonly error: JobError }
  | { readonly kind: 'released' };

export interface Execution {
  readonly jobType: JobType;
  readonly input: unknown;
  readonly context: {
    readonly progress: (percent: number, message?: string) => void;
    readonly job: { readonly id: string; readonly type: string; readonly accountId: string };
    readonly run: { readonly id: string; readonly number: number };
  };
  /** Aborts when the process shuts down and will not wait any longer. */
  readonly shutdown: AbortSignal;
  /** Aborts when the lease was lost: another worker runs the job, this run's end will be refused. */
  readonly leaseLost: AbortSignal;
}

/** Inline results only, for now: larger ones would make every status heavy. */
const MAX_OUTPUT_BYTES = 1024 * 1024;

/**
 * Runs a handler once, to an outcome; never throws. On timeout, shutdown and loss of the lease the handler's signal aborts and the
 * outcome stands at once: a handler that does not listen keeps running, but nobody waits for it.
 */
export async function execute(execution: Execution): Promise<RunOutcome> {
  const { jobType, shutdown, leaseLost } = execution;
  if (shutdown.aborted || leaseLost.aborted) return { kind: 'released' };
  const abort = new AbortController();
  const ended = Promise.withResolvers<RunOutcome>();
  const timer = setTimeout(() => {
    const message = `The run took longer than ${jobType.timeoutMs} ms.`;
    ended.resolve({ kind: 'timed_out', error: { code: 'timeout', message } });
    abort.abort(new DOMException(message, 'TimeoutError'));
  }, jobType.timeoutMs);
  const release = (reason: string) => {
    ended.resolve({ kind: 'released' });
    abort.abort(new DOMException(reason, 'AbortError'));
  };
  const onShutdown = () => release('The worker is shutting down.');
  const onLeaseLost = () => release('The lease was lost: another worker runs the job.');
  shutdown.addEventListener('abort', onShutdown, { once: true });
  leaseLost.addEventListener('abort', onLeaseLost, { once: true });
  try {
    return await Promise.race([checkAndCall(execution, abort.signal), ended.promise]);
  } finally {
    clearTimeout(timer);
    shutdown.removeEventListener('abort', onShutdown);
  }
}

/** A schema may wait too: it is inside the run's time. */
async function checkAndCall({ jobType, context, input: given }: Execution, signal: AbortSignal): Promise<RunOutcome> {
  const input = await validate(jobType.input, given).catch(thrown);
  if (signal.aborted) return { kind: 'released' }; // decided already; only the handler must not start
  if (input instanceof Thrown) return failed('invalid_input', `The input's schema threw: ${input.message}`, false);
  if (!input.ok) {
    const [fault] = input.faults;
    return failed(
      'invalid_input',
      `The input no longer fits the type: ${fault?.path ?? ''} ${fault?.message ?? ''}`,
      false,
    );
  }
  return callHandler(jobType, { ...context, input: input.value, signal });
}

async function callHandler(jobType: JobType, context: object): Promise<RunOutcome> {
  try {
    const output = await jobType.run(context as never);
    return await checkOutput(jobType, output);
  } catch (error) {
    return failed('handler_error', messageOf(error), !isFinal(error));
  }
}

/** A value that cannot be stored, or is not what the type promised, will not be so the next time: no retry. */
async function checkOutput(jobType: JobType, output: unknown): Promise<RunOutcome> {
  let checked = output;
  if (jobType.output !== undefined) {
    const result = await validate(jobType.output, output).catch(thrown);
    if (result instanceof Thrown)
      return failed('invalid_output', `The output's schema threw: ${result.message}`, false);
    if (!result.ok) {
      const faults = result.faults.slice(0, 5).map(({ path, message }) => `${path || '/'}: ${message}`);
      return failed('invalid_output', `The handler's result does not fit its schema. ${faults.join('; ')}`, false);
    }
    checked = result.value;
  }
  const json = toStorableJson(checked);
  if (!json.ok) return failed('invalid_output', `The handler's result cannot be stored: ${json.reason}.`, false);
  if (Buffer.byteLength(json.text) > MAX_OUTPUT_BYTES) {
    return failed('invalid_output', `The handler's result is larger than ${MAX_OUTPUT_BYTES} bytes.`, false);
  }
  return { kind: 'succeeded', output: checked, outputText: json.text };
}

function failed(code: JobError['code'], message: string, retryable: boolean): RunOutcome {
  return { kind: 'failed', error: { code, message }, retryable };
}

/** Marks what a schema threw, apart from what it answered. */
class Thrown {
  readonly message: string;
  constructor(message: string) {
    this.message = message;
  }
}

function thrown(error: unknown): Thrown {
  return new Thrown(messageOf(error));
}

const MAX_MESSAGE = 2000;

/** Handlers throw anything, even what cannot be looked at. */
function messageOf(error: unknown): string {
  try {
    if (error instanceof Error || types.isNativeError(error)) {
      return toCleanText(`${error.name}: ${error.message}`, MAX_MESSAGE);
    }
  } catch {
    return 'The handler threw an error that cannot be read.';
  }
  const json = toStorableJson(error);
  const text = json.ok && error !== undefined ? json.text : typeof error;
  return toCleanText(`The handler threw ${text}, which is not an Error.`, MAX_MESSAGE);
}

function isFinal(error: unknown): boolean {
  try {
    return error instanceof NonRetryableError;
  } catch {
    return false;
  }
}
