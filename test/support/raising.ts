import { onTestFinished } from 'vitest';
import type { TestDatabase } from './database.ts';

export interface Raising {
  /** How often the error was raised. */
  raised(): Promise<number>;
  stop(): Promise<void>;
}

let triggers = 0;

/**
 * Has the database refuse what is written into a table: the first `times` rows for which `when` holds, with an error of that
 * SQLSTATE. Counts by a sequence, which is not rolled back. Ends with the test.
 */
export async function raiseOn(
  write: 'INSERT' | 'UPDATE',
  table: 'delivery_attempts' | 'job_runs' | 'jobs' | 'run_queue',
  sqlState: string,
  {
    sql,
    times = Number.MAX_SAFE_INTEGER,
    when = 'true',
  }: Pick<TestDatabase, 'sql'> & { readonly times?: number; readonly when?: string },
): Promise<Raising> {
  const name = `raising_${++triggers}`;
  await sql.unsafe(`
    CREATE SEQUENCE ${name};
    CREATE FUNCTION ${name}() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF ${when} THEN
        IF nextval('public.${name}') <= ${times} THEN
          RAISE EXCEPTION 'raised by a test' USING ERRCODE = '${sqlState}';
        END IF;
      END IF;
      RETURN NEW;
    END $$;
    CREATE TRIGGER ${name} BEFORE ${write} ON ringback.${table} FOR EACH ROW EXECUTE FUNCTION ${name}();`);
  let isOver = false;
  const stop = async () => {
    if (isOver) return;
    isOver = true;
    await sql.unsafe(`DROP FUNCTION ${name} CASCADE`);
  };
  onTestFinished(async () => {
    await stop();
    await sql.unsafe(`DROP SEQUENCE ${name}`);
  });
  return {
    raised: async () => {
      const [row] = await sql.unsafe<{ count: number }[]>(
        `SELECT least(CASE WHEN is_called THEN last_value ELSE 0 END, ${times})::float8 AS count FROM ${name}`,
      );
      return row!.count;
    },
    stop,
  };
}
