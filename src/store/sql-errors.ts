/**
 * The connection broke, or stayed silent beyond its deadline, or the pool had none to give. What was asked of it may or may not
 * have been done: `outcome` says what is known of it.
 */
export class ConnectionLostError extends Error {
  override readonly name = 'ConnectionLostError';
  readonly code = 'CONNECTION_LOST';
  /**
   * `none`: nothing was committed, and it is safe to try again. `unknown`: the statement or the COMMIT was sent and no answer came, so
   * that its effects may stand, or may yet.
   */
  readonly outcome: 'none' | 'unknown';

  constructor(message: string, outcome: 'none' | 'unknown', cause?: unknown) {
    super(message, { cause });
    this.outcome = outcome;
  }
}

/** The transaction was answered with something else than its commit: nothing of it is stored. A fault of ours. */
export class NotCommittedError extends Error {
  override readonly name = 'NotCommittedError';
}

/**
 * SQLSTATE classes and driver codes that mean: not reachable, not ready, out of room or not the primary now; try again later. 25006:
 * the session's server is, or has become, a standby. 57P05: it has closed a session for being idle.
 */
const UNAVAILABLE = /^(?:08|25006|53|57P0[1-35]|58|CONNECTION_|CONNECT_TIMEOUT|E[A-Z_]{4,})/;

/** True when the database cannot be reached or is starting, stopping, out of room or read-only: nothing is wrong with the statement. */
export function isUnavailable(error: unknown): boolean {
  return UNAVAILABLE.test(codeOf(error));
}

/** Others' transactions were in its way, and the server has undone it: a serialization failure, or a deadlock. */
export function isRolledBack(error: unknown): boolean {
  return /^40(?:001|P01)$/.test(codeOf(error));
}

/** True when nobody knows whether what was sent has been, or will be, committed. */
export function isOutcomeUnknown(error: unknown): boolean {
  const cause = innermost(error);
  return cause instanceof ConnectionLostError && cause.outcome === 'unknown';
}

/** True when a statement took longer than it may, or was canceled by an administrator. */
export function isCanceled(error: unknown): boolean {
  return codeOf(error) === '57014';
}

/** True when there is such a row already: a unique constraint refused another one. */
export function isDuplicate(error: unknown): boolean {
  return codeOf(error) === '23505';
}

/** True when it refuses us, and always will: wrong user or password, no such database, no right to it. */
export function isForbidden(error: unknown): boolean {
  return /^(?:28|3D000|42501)/.test(codeOf(error));
}

/** True when something in between refuses what a session starts with, as PgBouncer does: PostgreSQL itself would not. */
export function isPooler(error: unknown): boolean {
  return codeOf(error) === '08P01';
}

/** True when the session is of no further use: it ended, or its server no longer takes writes. */
export function endsSession(error: unknown): boolean {
  const { severity_local: severity } = (innermost(error) ?? {}) as { severity_local?: unknown };
  return severity === 'FATAL' || severity === 'PANIC' || /^(?:08|25006|57P0)/.test(codeOf(error));
}

/** The SQLSTATE or the driver's code; drizzle wraps errors. */
export function codeOf(error: unknown): string {
  const code = (innermost(error) as { code?: unknown } | null | undefined)?.code;
  return typeof code === 'string' ? code : '';
}

function innermost(error: unknown): unknown {
  const isWrapped = error instanceof Error && !(error instanceof ConnectionLostError) && error.cause instanceof Error;
  return isWrapped ? error.cause : error;
}
