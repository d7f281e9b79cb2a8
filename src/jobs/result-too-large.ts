/** A result is larger than RINGBACK_MAX_RESULT_BYTES; what is read of it so far is thrown away. */
export class ResultTooLargeError extends Error {
  override readonly name = 'ResultTooLargeError';
  readonly maxBytes: number;

  constructor(maxBytes: number) {
    super(`The result is larger than ${maxBytes} bytes.`);
    this.maxBytes = maxBytes;
  }
}
