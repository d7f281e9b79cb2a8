import { type AccountId, newId } from '#domain/ids.ts';
import { DEFAULT_RETRY_POLICY } from '#domain/retry.ts';
import { claimRuns } from '#store/claim-runs.ts';
import { type Database, openDatabase } from '#store/database.ts';
import { endRuns } from '#store/end-runs.ts';
import { migrate } from '#store/migrate.ts';
import { decideRunEnd } from '../src/jobs/run/run-end.ts';
import { treeCpuMicros } from './cpu.ts';
import { startPostgres } from './postgres.ts';

/**
 * `node bench/queue.ts`: what a claim costs with nothing, 100,000 and 1,000,000 jobs waiting, of one account and one
 * type, and of 100 accounts and 100 types. Claims take 50 runs, which then end well. CPU is PostgreSQL's own.
 */
const CLAIMS = Number(process.env['BENCH_CLAIMS'] ?? 100);
const RUNS_A_CLAIM = 50;
const FILL_TIMEOUT_MS = 600_000;

interface Scene {
  readonly name: string;
  readonly backlog: number;
  readonly accounts: number;
  readonly types: number;
}

const SCENES: readonly Scene[] = [
  { name: 'nothing else waiting', backlog: 0, accounts: 1, types: 1 },
  { name: '100,000 waiting', backlog: 100_000, accounts: 1, types: 1 },
  { name: '1,000,000 waiting', backlog: 1_000_000, accounts: 1, types: 1 },
  { name: '100,000 waiting, 100 job types', backlog: 100_000, accounts: 1, types: 100 },
  { name: '100,000 waiting, 100 accounts', backlog: 100_000, accounts: 100, types: 1 },
];

/** Jobs that wait, made by the database itself: their ids only have to be unique and to sort. */
async function fill({ sql }: Database, scene: Scene, accounts: readonly AccountId[], tag: string): Promise<void> {
  const jobs = scene.backlog + CLAIMS * RUNS_A_CLAIM;
  await sql`
    WITH job AS (
      SELECT (${[...accounts]}::text[])[1 + n % ${accounts.length}] AS account_id,
        'job_' || ${tag} || lpad(n::text, 20, '0') AS id, 'type.' || n % ${scene.types} AS type
      FROM generate_series(1, ${jobs}::int) AS n
    ), inserted AS (
      INSERT INTO ringback.jobs (
        account_id, id, type, status, input, metadata, priority, run_count, failure_count, sequence, created_at, updated_at)
      SELECT account_id, id, type, 'queued', '{"hello":"world"}', '{}', 0, 0, 0, 1, now(), now() FROM job
    )
    INSERT INTO ringback.run_queue (account_id, job_id, type, pool, state, priority, timeout_ms, due_at)
    SELECT account_id, id, type, 'shared', 'ready', 0, 60000, now() FROM job`;
}

async function clear({ sql }: Database): Promise<void> {
  await sql`TRUNCATE ringback.run_queue, ringback.jobs CASCADE`;
}

async function measure(db: Database, postmaster: number): Promise<{ micros: number; p50Ms: number; p99Ms: number }> {
  const times: number[] = [];
  let [afterAccount, claimed, micros] = ['', 0, 0];
  for (let round = 0; round < CLAIMS; round++) {
    const now = new Date();
    const started = performance.now();
    const cpu = treeCpuMicros(postmaster);
    const { jobs, nextAccount } = await claimRuns(db, {
      pool: 'shared',
      limit: RUNS_A_CLAIM,
      workerId: 'bench',
      heldBy: 'runner',
      leaseMs: 15_000,
      afterAccount,
      now,
      poolLimit: null,
      accountLimit: null,
      exclusive: false,
    });
    micros += treeCpuMicros(postmaster) - cpu;
    times.push(performance.now() - started);
    claimed += jobs.length;
    afterAccount = nextAccount;
    const context = { policy: DEFAULT_RETRY_POLICY, publicUrl: '', now, random: 0 };
    const outcome = { kind: 'succeeded' as const, outputText: '{}', result: null };
    await endRuns(
      db.sql,
      jobs.map((job) => decideRunEnd(job, outcome, context)),
    );
  }
  times.sort((a, b) => a - b);
  const at = (share: number) => times[Math.floor(times.length * share)]!;
  return { micros: micros / claimed, p50Ms: at(0.5), p99Ms: at(0.99) };
}

async function main(): Promise<void> {
  const postgres = await startPostgres(false);
  const db = openDatabase({ url: postgres.url, applicationName: 'ringback-bench', max: 1, pooled: false });
  try {
    await migrate(postgres.url);
    const accounts = Array.from({ length: 100 }, (_, index) => newId('acc', Date.now() + index));
    for (const id of accounts)
      await db.sql`INSERT INTO ringback.accounts (account_id, name, created_at) VALUES (${id}, ${id}, now())`;
    for (const [index, scene] of SCENES.entries()) {
      await fill(db.within(FILL_TIMEOUT_MS), scene, accounts.slice(0, scene.accounts), `s${index}`);
      const { micros, p50Ms, p99Ms } = await measure(db, postgres.postmaster);
      const cost = `${micros.toFixed(0)} us of PostgreSQL a run, p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms a claim`;
      console.log(`claim of ${RUNS_A_CLAIM}: ${scene.name.padEnd(34)} ${cost}`);
      await clear(db.within(FILL_TIMEOUT_MS));
    }
  } finally {
    await db.close();
    await postgres.stop();
  }
}

await main();
