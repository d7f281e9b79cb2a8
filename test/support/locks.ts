import type { TestDatabase } from './database.ts';

/** A row that another connection has locked, until it is released. */
export async function lockRow(
  { db }: Pick<TestDatabase, 'db'>,
  table: 'delivery_queue' | 'run_queue' | 'deliveries' | 'jobs',
  column: string,
  id: string,
): Promise<{ release(): Promise<void> }> {
  const isLocked = Promise.withResolvers<void>();
  const isOver = Promise.withResolvers<void>();
  const holding = db.transaction(async (tx) => {
    const locked = await tx.unsafe(`SELECT FROM ringback.${table} WHERE ${column} = $1 FOR UPDATE`, [id]);
    if (locked.count !== 1) throw new Error(`no ${column} ${id} in ${table}`);
    isLocked.resolve();
    await isOver.promise;
  });
  await Promise.race([isLocked.promise, holding]);
  return {
    release: () => {
      isOver.resolve();
      return holding;
    },
  };
}
