import { readdirSync, readFileSync } from 'node:fs';

const MIGRATIONS = new URL('../../../migrations/', import.meta.url);

/** All migrations in their order, as one text. */
function readMigrations(): string {
  const files = readdirSync(MIGRATIONS).filter((file) => file.endsWith('.sql'));
  return files
    .toSorted()
    .map((file) => readFileSync(new URL(file, MIGRATIONS), 'utf8'))
    .join('\n');
}

/**
 * The words that a CHECK of the database lists, `... IN ('a', 'b')`, as its newest migration has them.
 * Throws when no migration has a constraint of that name.
 */
export function wordsOfCheck(constraint: string): string[] {
  const form = new RegExp(`CONSTRAINT "?${constraint}"? CHECK \\(.*? IN \\(([^)]*)\\)`, 'g');
  const newest = [...readMigrations().matchAll(form)].at(-1)?.[1];
  if (newest === undefined) throw new Error(`no migration has a CHECK ${constraint} with IN`);
  return newest.split(',').map((word) => word.trim().replaceAll("'", ''));
}
