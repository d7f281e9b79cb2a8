import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { type ReceivedRequest, startReceiver } from '../support/receiver.ts';
import { type RunningService, startService } from '../support/service.ts';
import { submit } from './support/api.ts';

const database = useDatabase();
const JOBS = 500;

/** Every stage at once: done, running, waiting for a retry, queued; callbacks sent, refused, unanswered, not yet due. */
function submission(n: number, url: string): object {
  const callback = { url: `${url}/${n % 10}` };
  if (n % 5 === 0) return { type: 'ringback.sleep', input: { ms: 300 + (n % 7) * 500 }, callback };
  if (n % 5 === 1) return { type: 'ringback.fail', input: { times: n % 4 }, callback };
  return { type: 'ringback.echo', input: { n }, callback };
}

/** Until runs and attempts are under way, others are over, and others have not begun. */
async function untilBusy(requests: readonly ReceivedRequest[]): Promise<void> {
  await eventually(async () => {
    const [stages] = await database.sql`
      SELECT
        count(*) FILTER (WHERE status = 'queued') > 0 AS queued,
        count(*) FILTER (WHERE run_id IS NOT NULL) > 0 AS running,
        count(*) FILTER (WHERE next_run_at IS NOT NULL) > 0 AS retrying,
        count(*) FILTER (WHERE status = 'succeeded') > 0 AS over,
        (SELECT count(*) > 5 FROM ringback.deliveries WHERE status = 'pending') AS delivering
      FROM ringback.jobs`;
    expect(stages).toEqual({ queued: true, running: true, retrying: true, over: true, delivering: true });
    expect(requests.length).toBeGreaterThan(20);
  }, 20_000);
}

async function untilAllOver(): Promise<void> {
  await eventually(async () => {
    const [open] = await database.sql`
      SELECT (SELECT count(*)::int FROM ringback.jobs WHERE finished_at IS NULL) AS jobs,
             (SELECT count(*)::int FROM ringback.deliveries WHERE finished_at IS NULL) AS deliveries`;
    expect(open).toEqual({ jobs: 0, deliveries: 0 });
  }, 60_000);
}

describe('a service that is killed with work at every stage', { timeout: 120_000 }, () => {
  it('loses nothing: what was acknowledged ends once, what was seen is on record', async () => {
    const receiver = await startReceiver();
    // The first ones hang until the kill, some fail, the rest succeed.
    receiver.script(
      ...Array.from({ length: 90 }, (_, n) => (n % 3 === 0 ? 'hang' : { status: n % 3 === 1 ? 500 : 200 })),
    );
    const env = { RINGBACK_CALLBACK_SCHEDULE: '0s,300ms,600ms,1s,1s,1s', RINGBACK_RUNNER_CONCURRENCY: '40' };
    const first = await startService({ databaseUrl: database.url, env });
    const ids = await Promise.all(
      Array.from({ length: JOBS }, async (_, n) => (await submit(first.request, submission(n, receiver.origin))).id),
    );
    await untilBusy(receiver.requests);
    await first.kill();

    const second = await startService({
      databaseUrl: database.url,
      env: { ...env, RINGBACK_SECRET_KEY: first.secretKey, RINGBACK_BOOTSTRAP_KEY: first.key },
    });
    await untilAllOver();
    await expectEveryJobEndedOnce(ids);
    await expectNoGaps();
    await expectEveryAttemptOnRecord(receiver.requests);
    await expectTraceOfTheKill(second);
    expect(
      await database.sql`SELECT delivery_id, state FROM ringback.delivery_queue`,
      'nothing is left to deliver',
    ).toHaveLength(0);
    expect(await database.sql`SELECT job_id, state FROM ringback.run_queue`, 'nothing is left to run').toHaveLength(0);
    await second.stop();
  });
});

async function expectEveryJobEndedOnce(ids: readonly string[]): Promise<void> {
  const jobs = await database.sql`SELECT id, type, status, input FROM ringback.jobs ORDER BY id`;
  expect(jobs.map(({ id }) => id)).toEqual(ids.toSorted());
  const wrong = jobs.filter(({ status, input }) => status !== (input.times === 3 ? 'failed' : 'succeeded'));
  expect(wrong).toEqual([]);
  const twice = await database.sql`
    SELECT job_id FROM ringback.job_runs WHERE status = 'succeeded' GROUP BY job_id HAVING count(*) > 1`;
  expect([...twice]).toEqual([]);
  const told = await database.sql`
    SELECT job_id FROM ringback.events WHERE type IN ('job.succeeded', 'job.failed')
    GROUP BY job_id HAVING count(*) > 1`;
  expect([...told], 'a job has one end').toEqual([]);
}

async function expectNoGaps(): Promise<void> {
  const events = await database.sql`
    SELECT job_id, json_agg(sequence ORDER BY sequence) AS sequences, json_agg(type ORDER BY sequence) AS types,
      (SELECT count(*)::int FROM ringback.job_runs AS run WHERE run.job_id = event.job_id) AS runs,
      max((convert_from(body, 'UTF8')::json ->> 'sequence')::int) AS told
    FROM ringback.events AS event GROUP BY job_id`;
  expect(events).toHaveLength(JOBS);
  for (const { sequences, types, runs, told } of events) {
    // Each run but the last is followed by another, and says so.
    const retries = Array.from({ length: runs - 1 }, () => 'job.retrying');
    expect(types).toEqual([
      'job.queued',
      'job.started',
      ...retries,
      expect.stringMatching(/^job\.(succeeded|failed)$/),
    ]);
    expect(sequences).toEqual(types.map((_: string, index: number) => index + 1));
    expect(told, 'the callback has the number of its event').toBe(sequences.length);
  }
  const numbers = await database.sql`
    SELECT job.id, run_count, json_agg(number ORDER BY number) AS numbers
    FROM ringback.jobs AS job JOIN ringback.job_runs AS run ON run.job_id = job.id GROUP BY job.id, run_count`;
  for (const { run_count: runs, numbers: seen } of numbers) {
    expect(seen).toEqual(Array.from({ length: runs }, (_, index) => index + 1));
  }
}

/** By webhook-id and webhook-timestamp; what the killed courier could not write down is `interrupted`. */
async function expectEveryAttemptOnRecord(requests: readonly ReceivedRequest[]): Promise<void> {
  const deliveries = await database.sql`SELECT event_id, status FROM ringback.deliveries`;
  expect(deliveries).toHaveLength(JOBS);
  expect(deliveries.filter(({ status }) => status !== 'delivered')).toEqual([]);

  const attempts = await database.sql`
    SELECT event_id, outcome, request_headers ->> 'webhook-timestamp' AS timestamp FROM ringback.delivery_attempts`;
  const onRecord = new Map<string, Array<{ outcome: string; timestamp: string | null }>>();
  for (const { event_id: id, outcome, timestamp } of attempts) {
    onRecord.set(id, [...(onRecord.get(id) ?? []), { outcome, timestamp }]);
  }
  for (const { headers } of requests) {
    const left = onRecord.get(String(headers['webhook-id'])) ?? [];
    const sent = left.findIndex(({ timestamp }) => timestamp === headers['webhook-timestamp']);
    const found = sent === -1 ? left.findIndex(({ outcome }) => outcome === 'interrupted') : sent;
    expect(found, `a request for ${String(headers['webhook-id'])} that no attempt tells of`).not.toBe(-1);
    left.splice(found, 1);
  }
  // What nobody saw may only have been interrupted before it was sent.
  const unseen = [...onRecord.values()].flat().filter(({ outcome }) => outcome !== 'interrupted');
  expect(unseen).toEqual([]);
}

async function expectTraceOfTheKill({ logs }: RunningService): Promise<void> {
  const [trace] = await database.sql`
    SELECT (SELECT count(*)::int FROM ringback.job_runs WHERE status = 'lost') AS lost,
           (SELECT count(*)::int FROM ringback.delivery_attempts WHERE outcome = 'interrupted') AS interrupted`;
  expect(trace!.lost).toBeGreaterThan(0);
  expect(trace!.interrupted).toBeGreaterThan(0);
  expect(logs.filter(({ msg }) => msg === 'rescued delivery')).toHaveLength(trace!.interrupted);
  expect(logs.filter(({ msg }) => msg === 'rescued')).toHaveLength(trace!.lost);
}
