import { failed, RunFailedError } from './handler.ts';

/** A result that is longer than results may be; it will be so the next time. */
export class ResultTooLargeError extends RunFailedError {
  override readonly name = 'ResultTooLargeError';

  constructor(maxBytes: number, options?: ErrorOptions) {
    super(
      failed('result_too_large', `The result is larger than ${maxBytes} bytes, the most there may be.`, false),
      options,
    );
  }
}
