import { expect } from 'vitest';
import type { Database } from '#store/database.ts';
import { eventually } from './eventually.ts';

/**
 * Waits until every transaction that has begun has ended, whoever began it: walks by change are held back by those of other
 * test files, which share the cluster.
 */
export async function passHorizon({ sql }: Database): Promise<void> {
  const [now] = await sql<[{ xid: string }]>`SELECT pg_current_xact_id() AS xid`;
  await eventually(async () => {
    const [seen] = await sql<[{ past: boolean }]>`
      SELECT pg_snapshot_xmin(pg_current_snapshot()) > ${now.xid}::xid8 AS past`;
    expect(seen.past, 'a transaction is still under way').toBe(true);
  }, 25_000);
}
