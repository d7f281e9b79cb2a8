import { codeOf, isUnavailable } from './sql-errors.ts';

/**
 * A conflict with another transaction, or a limit on waiting for one: serialization failure, deadlock, lock timeout, statement timeout
 * or cancellation, transaction timeouts. Nothing is wrong with the statement, and nothing of it was committed.
 */
const CONTENDED = /^(?:40001|40003|40P01|55P03|57014|25P03|25P04)$/;

/** True when the statement met another transaction: tried again, it may well succeed. */
export function isContended(error: unknown): boolean {
  return CONTENDED.test(codeOf(error));
}

/** True when the error may pass, so that what must be recorded is to be tried again. */
export function isTransient(error: unknown): boolean {
  return isContended(error) || isUnavailable(error);
}

/** For the record, and for clients: the SQLSTATE of what the database refused, never its text, which may quote rows. */
export function sqlStateOf(error: unknown): string {
  const code = codeOf(error);
  return /^[0-9A-Z]{5}$/.test(code) ? `SQLSTATE ${code}` : 'no SQLSTATE';
}
