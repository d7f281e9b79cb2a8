import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import postgres from 'postgres';
import { Webhook } from 'standardwebhooks';
import { type Arrival, startReceiver } from './demo/receiver.ts';
import { startService } from './demo/service.ts';
import { readTimeline } from './demo/timeline.ts';

/**
 * `npm run demo`: a real job from its POST to its verified callback, on a throw-away installation: submits a CSV file,
 * polls its status, receives the callback at a receiver that fails once first, and prints what the database recorded.
 */
const CSV = new URL('../examples/data/utc-offset-transitions.csv', import.meta.url);

interface Column {
  readonly name: string;
  readonly type: string;
  readonly distinct: number;
  readonly nulls: number;
  readonly min?: number | string | null;
  readonly max?: number | string | null;
}

interface Job {
  readonly id: string;
  readonly status: string;
  readonly done: boolean;
  readonly status_url: string;
  readonly callback: { readonly signing_secret?: string };
  readonly output?: { readonly rows: number; readonly columns: readonly Column[] };
}

function say(text = ''): void {
  console.log(text);
}

async function ask(url: string, key: string, body?: object): Promise<{ job: Job; retryAfter: number }> {
  const response = await fetch(url, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    ...(body && { body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${await response.text()}`);
  return { job: (await response.json()) as Job, retryAfter: Number(response.headers.get('retry-after') ?? 0) };
}

/** Polls as an integrator should: no sooner than Retry-After says. */
async function pollUntilDone(job: Job, key: string): Promise<Job> {
  for (;;) {
    const { job: now, retryAfter } = await ask(job.status_url, key);
    say(
      `  GET ${new URL(now.status_url).pathname}  ->  ${now.status}${now.done ? '' : `, ask again in ${retryAfter} s`}`,
    );
    if (now.done) return now;
    await sleep(retryAfter * 1000);
  }
}

/** A callback is answered a moment before its attempt is on record. */
async function untilRecorded(job: Job, key: string): Promise<void> {
  for (;;) {
    const response = await fetch(`${job.status_url}/deliveries`, { headers: { authorization: `Bearer ${key}` } });
    const { items } = (await response.json()) as { items: ReadonlyArray<{ finished_at: string | null }> };
    if (items.every(({ finished_at }) => finished_at !== null)) return;
    await sleep(20);
  }
}

function verify(arrival: Arrival, secret: string): void {
  new Webhook(secret).verify(arrival.body, arrival.headers);
  say(
    `  ${arrival.headers['webhook-id']}: signature verified by the standardwebhooks package, answered ${arrival.answered}`,
  );
}

function summarise({ output }: Job): void {
  say(`\nThe profile: ${output?.rows} rows`);
  for (const { name, type, distinct, nulls, min, max } of output?.columns ?? []) {
    const range = min === null || min === undefined ? '' : `${min} .. ${max}`;
    say(
      `  ${name.padEnd(20)} ${type.padEnd(9)} ${String(distinct).padStart(5)} distinct ${String(nulls).padStart(4)} empty  ${range}`,
    );
  }
}

async function main(): Promise<void> {
  const dataDir = await mkdtemp(join(tmpdir(), 'ringback-demo-'));
  const key = `rbk_${randomBytes(24).toString('base64url')}`;
  say('Starting Ringback on an embedded PostgreSQL ...');
  const service = await startService({ dataDir, key });
  const receiver = await startReceiver([503, 200]);
  const sql = postgres(service.databaseUrl, { max: 1 });
  try {
    const csv = await readFile(CSV, 'utf8');
    say(`Submitting ${(csv.length / 1024).toFixed(0)} KiB of CSV to ${service.url}/v1/jobs`);
    const request = {
      type: 'csv.profile',
      input: { csv },
      callback: { url: receiver.url },
      metadata: { from: 'demo' },
    };
    const { job } = await ask(`${service.url}/v1/jobs`, key, request);
    const secret = job.callback.signing_secret;
    if (secret === undefined)
      throw new Error('the first submission for a URL shows its signing secret, this one did not');
    say(`  202 Accepted: ${job.id}\n\nPolling its status:`);
    summarise(await pollUntilDone(job, key));

    say('\nCallbacks (the receiver fails the first on purpose; the next comes after about 5 s):');
    for (const arrival of [await receiver.next(), await receiver.next()]) verify(arrival, secret);

    await untilRecorded(job, key);
    say('\nWhat the database recorded:');
    for (const { at, what } of await readTimeline(sql, job.id)) say(`  ${at}  ${what}`);
    say('\nDone.');
  } finally {
    await sql.end();
    await receiver.close();
    await service.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

await main();
