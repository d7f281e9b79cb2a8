import { setTimeout as pause } from 'node:timers/promises';

const EVERY_MS = 5;

/**
 * Tries an assertion again until it holds, and answers what it returns. For what another process or a background loop
 * brings about: never a sleep, which is either too short or too long.
 * @param timeoutMs how long to go on; then the last failure is thrown. Default 10 s: generous, as only a failing test
 *   waits that long
 */
export async function eventually<T>(assertion: () => T | Promise<T>, timeoutMs = 10_000): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    try {
      return await assertion();
    } catch (error) {
      if (performance.now() > deadline) throw error;
    }
    await pause(EVERY_MS);
  }
}
