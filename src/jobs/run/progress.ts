import type { JobProgress } from '#domain/job.ts';
import { toCleanText } from '#domain/json.ts';

const WRITE_EVERY_MS = 250;

/** A run's progress: kept at once, written at most four times a second, never after the run has ended. */
export class ProgressReport {
  readonly #write: (progress: JobProgress) => Promise<void>;
  #latest: JobProgress | null;
  #timer: NodeJS.Timeout | undefined;
  #writtenAt = Number.NEGATIVE_INFINITY;
  #ended = false;

  constructor(initial: JobProgress | null, write: (progress: JobProgress) => Promise<void>) {
    this.#latest = initial;
    this.#write = write;
  }

  get latest(): JobProgress | null {
    return this.#latest;
  }

  /** Nonsense is made sense of: a progress report is no reason to fail a run. */
  report(percent: number, message?: unknown): void {
    const bounded = Math.min(100, Math.max(0, Number.isFinite(percent) ? percent : 0));
    this.#latest = message === undefined ? { percent: bounded } : { percent: bounded, message: textOf(message) };
    if (this.#timer !== undefined || this.#ended) return;
    const wait = Math.max(0, this.#writtenAt + WRITE_EVERY_MS - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#writtenAt = performance.now();
      if (this.#latest !== null) void this.#write(this.#latest);
    }, wait);
  }

  end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
  }
}

function textOf(message: unknown): string {
  try {
    return toCleanText(String(message), 500);
  } catch {
    return '';
  }
}
