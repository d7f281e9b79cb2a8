import type { Clock } from '#domain/clock.ts';
import { LOG_LEVELS, type JobLogLevel } from '#domain/job.ts';
import { toCleanJson, toCleanText, toKeptJson } from '#domain/json.ts';
import { shapeOf } from '#domain/json-text.ts';
import type { LogLine } from '#store/job-logs.ts';

const WRITE_EVERY_MS = 250;
const WRITE_AT_LINES = 200;
/** Of one run. What a handler says beyond is counted, not kept: a log must not outgrow the work. */
export const MAX_LINES = 10_000;
/** Of one run, too: what waits while the database is away is in memory. */
const MAX_CHARACTERS = 8_000_000;
const MAX_MESSAGE = 4000;
const MAX_FIELDS = 16_384;
/** Nested more deeply it might be too deep for whoever serialises it with lines around it: those would be lost too. */
const MAX_DEPTH = 100;
/** Positions of one run. */
const RUN_STRIDE = 1_000_000;

/** A line as it is stored: the `count`th of a run. Nonsense is made sense of: a log line is no reason to fail a run. */
export function toLogLine(
  runNumber: number,
  count: number,
  said: {
    readonly level: JobLogLevel;
    readonly message: unknown;
    readonly fields?: unknown;
    readonly fieldsText?: string | undefined;
  },
  now: Date,
): LogLine {
  return {
    position: runNumber * RUN_STRIDE + count,
    level: LOG_LEVELS.includes(said.level) ? said.level : 'info',
    message: textOf(said.message),
    fieldsText: fieldsOf(said.fields, said.fieldsText),
    createdAt: now,
  };
}

/** How many lines a run's log has whose last one stands there. */
export function countOfLines(runNumber: number, lastPosition: number | null): number {
  return lastPosition === null ? 0 : lastPosition - runNumber * RUN_STRIDE;
}

/** A run's log: lines are gathered for a moment and written together, in their order, the last ones before the run ends. */
export class RunLog {
  readonly #write: (lines: readonly LogLine[]) => Promise<unknown>;
  readonly #onError: (error: unknown) => void;
  readonly #runNumber: number;
  readonly #clock: Clock;
  #count = 0;
  #characters = 0;
  #dropped = 0;
  #ended = false;
  #waiting: LogLine[] = [];
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  /** @param run.runNumber counts from 1 within the job */
  constructor(
    { runNumber, clock }: { runNumber: number; clock: Clock },
    write: (lines: readonly LogLine[]) => Promise<unknown>,
    onError: (error: unknown) => void,
  ) {
    this.#runNumber = runNumber;
    this.#clock = clock;
    this.#write = write;
    this.#onError = onError;
  }

  /** What a handler says after its run has ended is not kept. */
  add(level: JobLogLevel, message: unknown, fields?: unknown): void {
    if (this.#ended) return;
    if (this.#isFull) {
      this.#dropped += 1;
      return;
    }
    this.#push(level, message, fields);
    if (this.#waiting.length >= WRITE_AT_LINES) this.#flush();
    else this.#timer ??= setTimeout(() => this.#flush(), WRITE_EVERY_MS);
  }

  /** Resolves when every line is written, or could not be. */
  async end(): Promise<void> {
    this.#ended = true;
    const most = this.#count >= MAX_LINES ? `${MAX_LINES} lines` : `${MAX_CHARACTERS} characters`;
    if (this.#dropped > 0) this.#push('warn', `${this.#dropped} more lines were not kept: a run may have ${most}.`);
    this.#flush();
    await this.#writing;
  }

  get #isFull(): boolean {
    return this.#count >= MAX_LINES || this.#characters >= MAX_CHARACTERS;
  }

  #push(level: JobLogLevel, message: unknown, fields?: unknown): void {
    // Counted afterwards: to look at what is said may be to run code of its own, which may log as well.
    const line = toLogLine(this.#runNumber, 0, { level, message, fields }, this.#clock.now());
    this.#count += 1;
    this.#characters += line.message.length + (line.fieldsText?.length ?? 0);
    this.#waiting.push({ ...line, position: line.position + this.#count });
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

/**
 * An object that JSON can say, and not too much of it. What is given may be anything: to look at it may throw.
 * @param sent what it was sent as, if it was: that is kept, where it can be stored
 */
function fieldsOf(fields: unknown, sent: string | undefined): string | null {
  if (fields === undefined || fields === null) return null;
  try {
    const kept = sent === undefined ? undefined : toKeptJson(sent, fields);
    const text = kept?.ok === true ? kept.text : toCleanJson(fields);
    if (text.startsWith('{') && text.length <= MAX_FIELDS && shapeOf(text).depth <= MAX_DEPTH) return text;
  } catch {
    // A cycle, a BigInt, a getter that throws.
  }
  return '{"ringback":"These fields could not be kept."}';
}
