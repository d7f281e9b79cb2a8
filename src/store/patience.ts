/** How many times as long a statement may take at most. */
const MAX_FACTOR = 8;
const REMEMBERED_MS = 600_000;

/**
 * How long statements may take. A limit that is short enough to notice a silent connection is too short for a statement that
 * happens to be slow, on a cold cache or a crowded disk, and would stop it for ever: one that was canceled gets twice as long next time.
 */
export class Patience {
  readonly #slow = new Map<unknown, { readonly factor: number; readonly until: number }>();

  /** @param text what the statement is known by */
  allow(text: unknown, usualMs: number): number {
    const slow = this.#slow.size === 0 ? undefined : this.#slow.get(text);
    if (slow === undefined) return usualMs;
    if (performance.now() < slow.until) return usualMs * slow.factor;
    this.#slow.delete(text);
    return usualMs;
  }

  wasCanceled(text: unknown): void {
    const factor = Math.min(MAX_FACTOR, 2 * (this.#slow.get(text)?.factor ?? 1));
    this.#slow.set(text, { factor, until: performance.now() + REMEMBERED_MS });
  }
}
