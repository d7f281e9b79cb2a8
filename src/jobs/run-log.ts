import { LOG_LEVELS, type JobLogLevel } from '#domain/job.ts';
import { toCleanJson, toCleanText } from '#domain/json.ts';
import type { LogLine } from '#store/job-logs.ts';

const WRITE_EVERY_MS = 250;
const WRITE_AT_LINES = 200;
/** Of one run, in lines and in characters. What a handler says beyond is counted, not kept: a log must not outgrow the work. */
const MAX_LINES = 10_000;
const MAX_CHARACTERS = 8_000_000;
const MAX_MESSAGE = 4000;
const MAX_FIELDS = 16_384;
/** Positions of one run. */
const RUN_STRIDE = 1_000_000;

/** A run's log: lines are gathered for a moment and written together, in their order, the last ones before the run ends. */
export class RunLog {
  readonly #write: (lines: readonly LogLine[]) => Promise<unknown>;
  readonly #onError: (error: unknown) => void;
  readonly #start: number;
  #count = 0;
  #characters = 0;
  #dropped = 0;
  #ended = false;
  #waiting: LogLine[] = [];
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  /** @param runNumber counts from 1 within the job */
  constructor(
    runNumber: number,
    write: (lines: readonly LogLine[]) => Promise<unknown>,
    onError: (error: unknown) => void,
  ) {
    this.#start = runNumber * RUN_STRIDE;
    this.#write = write;
    this.#onError = onError;
  }

  /** Nonsense is made sense of: a log line is no reason to fail a run. What comes after the end is not kept. */
  add(level: JobLogLevel, message: unknown, fields?: unknown): void {
    if (this.#ended) return;
    if (this.#count >= MAX_LINES || this.#characters >= MAX_CHARACTERS) {
      this.#dropped += 1;
      return;
    }
    this.#push(LOG_LEVELS.includes(level) ? level : 'info', textOf(message), fieldsOf(fields));
    if (this.#waiting.length >= WRITE_AT_LINES) this.#flush();
    else this.#timer ??= setTimeout(() => this.#flush(), WRITE_EVERY_MS);
  }

  /** Resolves when every line is written, or could not be. */
  async end(): Promise<void> {
    this.#ended = true;
    if (this.#dropped > 0) this.#push('warn', `${this.#dropped} more lines were not kept: ${this.#limit}`, null);
    this.#flush();
    await this.#writing;
  }

  get #limit(): string {
    return this.#count >= MAX_LINES ? `a run may have ${MAX_LINES}.` : `a run may have ${MAX_CHARACTERS} characters.`;
  }

  #push(level: JobLogLevel, message: string, fields: string | null): void {
    this.#count += 1;
    this.#characters += message.length + (fields?.length ?? 0);
    this.#waiting.push({
      position: this.#start + this.#count,
      level,
      message,
      fields: fields === null ? null : (JSON.parse(fields) as Record<string, unknown>),
      createdAt: new Date(),
    });
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#waiting.length === 0) return;
    const lines = this.#waiting;
    this.#waiting = [];
    this.#writing = this.#writing.then(() => this.#write(lines)).then(() => undefined, this.#onError);
  }
}

function textOf(message: unknown): string {
  try {
    return toCleanText(String(message), MAX_MESSAGE);
  } catch {
    return '';
  }
}

/** An object that JSON can say, and not too much of it, as JSON. It may be anything: to look at it may throw. */
function fieldsOf(fields: unknown): string | null {
  if (fields === undefined || fields === null) return null;
  try {
    const text = toCleanJson(fields);
    if (text.startsWith('{') && text.length <= MAX_FIELDS) return text;
  } catch {
    // A cycle, a BigInt, a getter that throws.
  }
  return UNKEPT_FIELDS;
}

const UNKEPT_FIELDS = JSON.stringify({ ringback: 'These fields could not be kept.' });
