import { API_KEY_SCOPES, hashApiKey, newApiKey } from '#domain/api-key.ts';
import { newId } from '#domain/ids.ts';
import { ensureApiKey } from '#store/accounts.ts';
import { openDatabase } from '#store/database.ts';
import { startPostgres } from './postgres.ts';
import { startService } from './service.ts';

/**
 * `node bench/fairness.ts`: how long a single job waits to be started, alone and beside another account's backlog of
 * 10,000. Every job takes 20 ms; the runner has 100 places.
 */
const BACKLOG = Number(process.env['BENCH_BACKLOG'] ?? 10_000);
const SAMPLES = 50;
const JOB_MS = 20;
const BATCH = 1000;

interface Job {
  readonly id: string;
  readonly done: boolean;
  readonly created_at: string;
  readonly started_at?: string;
}

async function ask<T>(url: string, key: string, body?: object): Promise<T> {
  const response = await fetch(url, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    ...(body && { body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${await response.text()}`);
  return (await response.json()) as T;
}

const sleepJob = { type: 'ringback.sleep', input: { ms: JOB_MS } };

/** Milliseconds from acceptance to start, by the database's record, of one job after the other. */
async function measureStarts(url: string, key: string): Promise<number[]> {
  const delays: number[] = [];
  for (let sample = 0; sample < SAMPLES; sample++) {
    let job = await ask<Job>(`${url}/v1/jobs`, key, sleepJob);
    while (!job.done) job = await ask<Job>(`${url}/v1/jobs/${job.id}`, key);
    delays.push(Date.parse(job.started_at ?? '') - Date.parse(job.created_at));
  }
  return delays.toSorted((a, b) => a - b);
}

function print(name: string, sorted: readonly number[]): void {
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  console.log(`${name.padEnd(44)} p50 ${at(0.5)} ms, p95 ${at(0.95)} ms, max ${sorted.at(-1)} ms`);
}

async function main(): Promise<void> {
  const postgres = await startPostgres();
  const service = await startService(postgres.url);
  const db = openDatabase({ url: postgres.url, applicationName: 'ringback-bench', max: 1, pooled: false });
  try {
    const now = new Date();
    const quiet = newApiKey();
    await ensureApiKey(db, {
      accountId: newId('acc', now.getTime()),
      accountName: 'quiet',
      keyId: newId('key', now.getTime()),
      hash: hashApiKey(quiet),
      lastFour: quiet.slice(-4),
      scopes: API_KEY_SCOPES,
      now,
    });
    await measureStarts(service.url, quiet); // warms up
    print('acceptance to start, alone', await measureStarts(service.url, quiet));
    const items = Array.from({ length: BATCH }, () => sleepJob);
    for (let sent = 0; sent < BACKLOG; sent += BATCH) await ask(`${service.url}/v1/jobs/batch`, service.key, { items });
    const starts = await measureStarts(service.url, quiet);
    const [left] = await db.sql<[{ jobs: number }]>`SELECT count(*)::int AS jobs FROM ringback.run_queue`;
    print(`acceptance to start, beside ${BACKLOG.toLocaleString('en')} of a neighbour`, starts);
    console.log(`of which still waiting at the end: ${left.jobs}`);
  } finally {
    await db.close();
    await service.stop();
    await postgres.stop();
  }
}

await main();
