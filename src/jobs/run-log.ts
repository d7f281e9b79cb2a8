import { LOG_LEVELS, type JobLogLevel } from '#domain/job.ts';
import { toCleanText, toStorableJson } from '#domain/json.ts';
import type { LogLine } from '#store/job-logs.ts';

const WRITE_EVERY_MS = 250;
const WRITE_AT_LINES = 200;
/** Of one run. What a handler says beyond is counted, not kept: a log must not outgrow the work. */
const MAX_LINES = 10_000;
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
  #dropped = 0;
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

  /** Nonsense is made sense of: a log line is no reason to fail a run. */
  add(level: JobLogLevel, message: unknown, fields?: unknown): void {
    if (this.#count >= MAX_LINES) {
      this.#dropped += 1;
      return;
    }
    this.#push(LOG_LEVELS.includes(level) ? level : 'info', message, fields);
    if (this.#waiting.length >= WRITE_AT_LINES) this.#flush();
    else this.#timer ??= setTimeout(() => this.#flush(), WRITE_EVERY_MS);
  }

  /** Resolves when every line is written, or could not be. */
  async end(): Promise<void> {
    if (this.#dropped > 0) this.#push('warn', `${this.#dropped} more lines were not kept: ${MAX_LINES} a run are.`);
    this.#flush();
    await this.#writing;
  }

  #push(level: JobLogLevel, message: unknown, fields?: unknown): void {
    const text = textOf(message);
    this.#count += 1;
    this.#waiting.push({
      position: this.#start + this.#count,
      level,
      message: text,
      fields: fieldsOf(fields),
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

/** An object that JSON can say, and not too much of it. */
function fieldsOf(fields: unknown): Readonly<Record<string, unknown>> | null {
  if (typeof fields !== 'object' || fields === null || Array.isArray(fields)) return null;
  const json = toStorableJson(fields);
  if (!json.ok || json.text.length > MAX_FIELDS) return { ringback: 'These fields could not be kept.' };
  return JSON.parse(json.text) as Record<string, unknown>;
}
