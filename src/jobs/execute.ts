import type { JobError } from '#domain/job.ts';
import { toStorableJson } from '#domain/json.ts';
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
}

/** Inline results only, for now: larger ones would make every status heavy. */
const MAX_OUTPUT_BYTES = 1024 * 1024;

/**
 * Runs a handler once, to an outcome; never throws. On timeout and on shutdown the handler's signal aborts and the
 * outcome stands at once: a handler that does not listen keeps running, but nobody waits for it.
 */
export async function execute(execution: Execution): Promise<RunOutcome> {
  const { jobType, context, shutdown } = execution;
  const input = await validate(jobType.input, execution.input).catch(thrown);
  if (input instanceof Thrown) return failed('invalid_input', `The input's schema threw: ${input.message}`, false);
  if (!input.ok) {
    const [fault] = input.faults;
    return failed(
      'invalid_input',
      `The input no longer fits the type: ${fault?.path ?? ''} ${fault?.message ?? ''}`,
      false,
    );
  }

  const abort = new AbortController();
  const ended = Promise.withResolvers<RunOutcome>();
  const timer = setTimeout(() => {
    const message = `The run took longer than ${jobType.timeoutMs} ms.`;
    ended.resolve({ kind: 'timed_out', error: { code: 'timeout', message } });
    abort.abort(new DOMException(message, 'TimeoutError'));
  }, jobType.timeoutMs);
  const onShutdown = () => {
    ended.resolve({ kind: 'released' });
    abort.abort(new DOMException('The worker is shutting down.', 'AbortError'));
  };
  shutdown.addEventListener('abort', onShutdown, { once: true });
  try {
    const handled = callHandler(jobType, { ...context, input: input.value, signal: abort.signal });
    return await Promise.race([handled, ended.promise]);
  } finally {
    clearTimeout(timer);
    shutdown.removeEventListener('abort', onShutdown);
  }
}

async function callHandler(jobType: JobType, context: object): Promise<RunOutcome> {
  try {
    const output = await jobType.run(context as never);
    return await checkOutput(jobType, output);
  } catch (error) {
    return failed('handler_error', messageOf(error), !(error instanceof NonRetryableError));
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

/** Handlers throw anything. */
function messageOf(error: unknown): string {
  if (error instanceof Error) return `${error.name}: ${error.message}`.slice(0, MAX_MESSAGE);
  const json = toStorableJson(error);
  return `The handler threw ${json.ok ? json.text : typeof error}, which is not an Error.`.slice(0, MAX_MESSAGE);
}
