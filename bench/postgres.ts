import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startEmbeddedPostgres } from '#embedded/postgres.ts';

/** A server on an empty data directory of its own, for benchmarks. */
export interface BenchPostgres {
  readonly url: string;
  /** Process id. */
  readonly postmaster: number;
  stop(): Promise<void>;
}

/** @param durable whether commits wait for the disk */
export async function startPostgres(durable = true): Promise<BenchPostgres> {
  const dataDir = await mkdtemp(join(tmpdir(), 'ringback-bench-'));
  const postgres = await startEmbeddedPostgres({ dataDir, durable });
  const postmaster = Number(readFileSync(join(postgres.clusterDir, 'postmaster.pid'), 'utf8').split('\n')[0]);
  const stop = async () => {
    await postgres.stop();
    await rm(dataDir, { recursive: true, force: true });
  };
  return { url: postgres.url, postmaster, stop };
}
