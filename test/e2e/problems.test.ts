import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { type ProblemCode, PROBLEMS } from '#domain/problem.ts';
import { helper, useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { makeAccount } from '../support/fixtures.ts';
import { type Answer, client, submit, untilDone } from './support/api.ts';
import { claimRun, type ClaimedRun, endsOf, tell } from './support/claims.ts';
import { JOB_SIDE, serviceEnv, useService } from './support/main-process.ts';
import { expectProblem } from './support/problem.ts';
import { type RawAnswer, sendRaw } from './support/raw-http.ts';

const database = useDatabase();
const key = 'rbk_for-problems';
const service = useService(() =>
  serviceEnv(database.url, {
    RINGBACK_BOOTSTRAP_KEY: key,
    RINGBACK_CONFIG: JOB_SIDE,
    RINGBACK_MAX_RESULT_BYTES: '2048',
  }),
);
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);

const echo = { type: 'ringback.echo', input: 1 };
const UNKNOWN = '01h455vb4pex5vsknk084sn02q';

interface Provoked {
  readonly by: () => Promise<Answer | RawAnswer>;
  /** What the detail tells the client. */
  readonly saying: RegExp;
  /** The places of the faults that it lists. */
  readonly at?: readonly string[];
}

/** One request for each code; the type makes it say something of every one. */
const PROVOKED: Record<ProblemCode, Provoked | { readonly elsewhere: string }> = {
  malformed_request: { by: () => sendRaw(service.url, 'HELLO\r\n\r\n'), saying: /HTTP\/1\.1/ },
  expectation_failed: {
    by: () => sendRaw(service.url, 'GET /healthz HTTP/1.1\r\nhost: x\r\nexpect: wonders\r\n\r\n'),
    saying: /100-continue/,
  },
  malformed_json: { by: () => ask('POST', '/v1/jobs', '{"type":'), saying: /JSON/ },
  invalid_id: { by: () => ask('GET', '/v1/jobs/4711'), saying: /must look like job_/, at: ['/id'] },
  invalid_query: { by: () => ask('GET', '/v1/jobs?limit=0'), saying: /limit/, at: ['/limit'] },
  invalid_idempotency_key: {
    by: () => ask('POST', '/v1/jobs', echo, { 'idempotency-key': 'x'.repeat(256) }),
    saying: /1 to 255 printable/,
  },
  invalid_last_event_id: { by: () => eventsAfter('4711'), saying: /from 1 to \d/ },
  unauthenticated: { by: () => client(service.url, 'rbk_nobody-knows-this')('GET', '/v1/jobs'), saying: /Bearer rbk_/ },
  insufficient_scope: {
    by: async () => client(service.url, await keyWith(['read']))('POST', '/v1/jobs', echo),
    saying: /"write"/,
  },
  route_not_found: { by: () => ask('GET', '/v2/jobs'), saying: /\/v2\/jobs.*\/openapi\.json/ },
  unknown_job_type: {
    by: () => ask('POST', '/v1/jobs', { type: 'ringback.ecko', input: 1 }),
    saying: /"ringback\.ecko".*Did you mean ringback\.echo/,
  },
  job_not_found: { by: () => ask('GET', `/v1/jobs/job_${UNKNOWN}`), saying: new RegExp(`job_${UNKNOWN}`) },
  endpoint_not_found: { by: () => ask('GET', `/v1/endpoints/ep_${UNKNOWN}`), saying: new RegExp(`ep_${UNKNOWN}`) },
  run_not_found: {
    by: () => tell(ask, { handle: `acc_${UNKNOWN}.job_${UNKNOWN}.run_${UNKNOWN}` }, 'heartbeat'),
    saying: /no such run/,
  },
  schedule_not_found: {
    by: () => ask('GET', `/v1/schedules/sch_${UNKNOWN}`),
    saying: new RegExp(`sch_${UNKNOWN}`),
  },
  completion_not_found: {
    by: () => ask('POST', '/v1/completions/nonsense', { status: 'succeeded', output: 1 }),
    saying: /no such completion URL/,
  },
  delivery_not_found: { by: () => ask('GET', `/v1/deliveries/dlv_${UNKNOWN}`), saying: new RegExp(`dlv_${UNKNOWN}`) },
  method_not_allowed: { by: () => ask('DELETE', '/v1/jobs'), saying: /DELETE.*GET/ },
  job_not_finished: {
    by: () => resultOf({ type: 'ringback.sleep', input: { ms: 600_000 } }),
    saying: /Ask again in \d/,
  },
  idempotency_in_flight: { by: () => askTwiceAtOnce(), saying: /first request under this key/ },
  run_over: { by: () => heartbeatAfterEnd(), saying: /ended: succeeded/ },
  run_superseded: { by: () => heartbeatAfterLoss(), saying: /lease ran out/ },
  endpoint_url_taken: { elsewhere: 'e2e/endpoints.test.ts changes one to the URL of another' },
  endpoint_disabled: { elsewhere: 'e2e/etiquette.test.ts has one disabled' },
  endpoint_unverified: { elsewhere: 'e2e/verified-endpoints.test.ts has one that has not echoed its challenge' },
  too_many_signing_secrets: { elsewhere: 'e2e/secrets.test.ts rotates often' },
  delivery_pending: { elsewhere: 'e2e/redelivery.test.ts sends again what is queued' },
  delivery_unrepeatable: { elsewhere: 'e2e/verified-endpoints.test.ts sends a challenge again' },
  schedule_name_taken: { by: () => makeTwice({ name: 'twice', cron: '@yearly', job: echo }), saying: /"twice"/ },
  no_result: { by: () => resultOfFailed(), saying: /failed/ },
  job_expired: { elsewhere: 'integration/jobs/retention.test.ts lets jobs go' },
  body_too_large: {
    by: () => ask('POST', '/v1/jobs', { ...echo, input: 'x'.repeat(1_048_576) }),
    saying: /1048576 bytes/,
  },
  input_too_large: {
    by: () => ask('POST', '/v1/jobs', { type: 'small.input', input: 'x'.repeat(99) }),
    saying: /small\.input may have 100 bytes/,
  },
  result_too_large: { by: () => upload('x'.repeat(2049)), saying: /2048/ },
  unsupported_media_type: {
    by: () => ask('POST', '/v1/jobs', 'type=ringback.echo', { 'content-type': 'application/x-www-form-urlencoded' }),
    saying: /application\/json/,
  },
  range_not_satisfiable: { elsewhere: 'e2e/large-results.test.ts asks for parts of results' },
  invalid_body: { by: () => ask('POST', '/v1/jobs', { ...echo, typ: 1 }), saying: /typ/, at: [''] },
  invalid_input: {
    by: () => ask('POST', '/v1/jobs', { type: 'ringback.sleep', input: { ms: -1 } }),
    saying: /ringback\.sleep/,
    at: ['/input/ms'],
  },
  invalid_output: { by: () => completeWith('no number'), saying: /run has failed/, at: ['/output'] },
  endpoint_not_registered: { elsewhere: 'e2e/callback-policies.test.ts sets the policy' },
  invalid_callback_url: {
    by: () => ask('POST', '/v1/jobs', { ...echo, callback: { url: 'http://10.0.0.1/' } }),
    saying: /10\.0\.0\.0\/8/,
    at: ['/callback/url'],
  },
  invalid_signing_secret: { elsewhere: 'e2e/secrets.test.ts brings secrets along that are none' },
  invalid_tls: {
    by: () => ask('POST', '/v1/endpoints', { url: 'https://127.0.0.1:9/tls', tls: { authorities: 'none' } }),
    saying: /authorities are no certificates/,
    at: ['/tls/authorities'],
  },
  invalid_schedule: {
    by: () => ask('POST', '/v1/schedules', { name: 'never', cron: '0 0 30 2 *', time_zone: 'Berlin', job: echo }),
    saying: /never comes due.*Europe\/Berlin/,
    at: ['/cron', '/time_zone'],
  },
  idempotency_key_reused: { by: () => reuseKey(), saying: /another payload/ },
  too_many_submissions: { elsewhere: 'integration/jobs/admission.test.ts sets the limits' },
  too_many_jobs: { elsewhere: 'integration/jobs/admission.test.ts sets the limits' },
  headers_too_large: {
    by: () => sendRaw(service.url, `GET /healthz HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`),
    saying: /16 KiB/,
  },
  internal_error: { by: () => withoutTable('endpoint_secrets'), saying: /request id/ },
  starting: { elsewhere: 'e2e/start.test.ts asks while a migration is held up' },
  queue_full: { elsewhere: 'integration/jobs/admission.test.ts sets the limits' },
  outcome_unknown: { elsewhere: 'e2e/unknown-outcome.test.ts cuts the connection between a commit and its answer' },
  database_unavailable: { elsewhere: 'database-outage.test.ts takes the database away' },
};

/** Answers what the second of two equal requests is told. */
async function makeTwice(schedule: object): Promise<Answer> {
  await ask('POST', '/v1/schedules', schedule);
  return ask('POST', '/v1/schedules', schedule);
}

describe('a problem', () => {
  const codes = Object.keys(PROBLEMS) as ProblemCode[];
  it.each(codes.filter((code) => 'by' in PROVOKED[code]))(
    '%s is met over HTTP as the catalogue has it',
    async (code) => {
      const { by, saying, at } = PROVOKED[code] as Provoked;
      const document = expectProblem(await by(), code);
      expect(document.detail).toMatch(saying);
      expect(document.errors?.map(({ path }: { path: string }) => path)).toEqual(at);
    },
  );

  it('names what is near in a member of its own', async () => {
    const { json } = await ask('POST', '/v1/jobs', { ...echo, type: 'ringback.ecko' });
    expect(json.near[0]).toBe('ringback.echo');
    const far = await ask('POST', '/v1/jobs', { ...echo, type: `${'ü'.repeat(99)}\0` });
    expect(expectProblem(far, 'unknown_job_type')).toMatchObject({
      near: [],
      detail: expect.stringContaining('GET /v1/job-types'),
    });
  });

  it('of ours tells the client nothing of the inside, and the log everything, under the same request id', async () => {
    const answer = await withoutTable('endpoint_secrets');
    expect(answer.text).not.toContain('endpoint_secrets');
    const requestId = answer.headers.get('x-request-id');
    await eventually(() => {
      const line = service.main.logs.find(({ msg, request_id: id }) => msg === 'request failed' && id === requestId);
      expect(JSON.stringify(line)).toContain('endpoint_secrets');
    });
  });
});

describe('a key', () => {
  const withHeader = async (authorization: string | undefined) => {
    const response = await fetch(
      `${service.url}/v1/jobs`,
      authorization === undefined ? {} : { headers: { authorization } },
    );
    const text = await response.text();
    return { status: response.status, headers: response.headers, text, json: JSON.parse(text) };
  };

  it.each([
    ['missing', undefined],
    ['empty', ''],
    ['without a scheme', key],
    ['under another scheme', `Basic ${Buffer.from(`${key}:`).toString('base64')}`],
    ['twice', `Bearer ${key} ${key}`],
    ['too short', 'Bearer rbk_1'],
    ['with a quote and a comment', "Bearer rbk_'--or-1=1"],
    ['very long', `Bearer rbk_${'x'.repeat(8000)}`],
    ['in other letters', `Bearer ${key.toUpperCase()}`],
  ])('that is %s is refused with the challenge', async (_, authorization) => {
    const answer = await withHeader(authorization);
    expectProblem(answer, 'unauthenticated');
    expect(answer.headers.get('www-authenticate')).toBe('Bearer realm="ringback"');
  });

  it('is taken whatever the spelling of its scheme', async () => {
    expect((await withHeader(`bearer  ${key}`)).status).toBe(200);
  });

  it('that was revoked is refused', async () => {
    const { key: revoked, accountId } = await makeAccount(database.db);
    await database.sql`UPDATE ringback.api_keys SET revoked_at = now() WHERE account_id = ${accountId}`;
    expectProblem(await client(service.url, revoked)('GET', '/v1/jobs'), 'unauthenticated');
  });

  it('may do what its scope says and no more', async () => {
    const read = client(service.url, await keyWith(['read']));
    const write = client(service.url, await keyWith(['write']));
    expect((await read('GET', '/v1/jobs')).status).toBe(200);
    expectProblem(await read('POST', '/v1/endpoints', { url: 'https://example.com/' }), 'insufficient_scope');
    expect((await write('POST', '/v1/jobs', echo)).status).toBe(202);
    expectProblem(await write('GET', '/v1/jobs'), 'insufficient_scope');
  });

  it('sees nothing of another account: its ids are not found, its lists are empty', async () => {
    const job = await submit(ask, { ...echo, callback: { url: 'http://127.0.0.1:9/never' } });
    await untilDone(ask, job.id);
    const [delivery] = (await ask('GET', `/v1/jobs/${job.id}/deliveries`)).json.items;
    const stranger = client(service.url, (await makeAccount(database.db)).key);
    for (const rest of ['', '/result', '/runs', '/deliveries', '/events']) {
      expectProblem(await stranger('GET', `/v1/jobs/${job.id}${rest}`), 'job_not_found');
    }
    const { endpoint_id: endpointId } = job.callback;
    expectProblem(await stranger('GET', `/v1/endpoints/${endpointId}`), 'endpoint_not_found');
    expectProblem(await stranger('POST', `/v1/endpoints/${endpointId}/rotate-secret`), 'endpoint_not_found');
    expectProblem(await stranger('GET', `/v1/endpoints/${endpointId}/secrets`), 'endpoint_not_found');
    const borrowed = { ...echo, callback: { endpoint_id: endpointId } };
    expectProblem(await stranger('POST', '/v1/jobs', borrowed), 'endpoint_not_found');
    for (const rest of ['', '/attempts']) {
      expectProblem(await stranger('GET', `/v1/deliveries/${delivery.id}${rest}`), 'delivery_not_found');
    }
    expectProblem(await stranger('POST', `/v1/jobs/${job.id}/cancel`), 'job_not_found');
    const made = await ask('POST', '/v1/schedules', { name: 'ours', cron: '@yearly', job: echo });
    expectProblem(await stranger('GET', `/v1/schedules/${made.json.id}`), 'schedule_not_found');
    expectProblem(await stranger('POST', `/v1/schedules/${made.json.id}/trigger`), 'schedule_not_found');
    expect((await stranger('GET', '/v1/jobs')).json).toEqual({ items: [], next_cursor: null, has_more: false });
    expect((await stranger('GET', '/v1/schedules')).json).toEqual({ items: [], next_cursor: null });
    expect((await stranger('GET', '/v1/endpoints')).json).toEqual({ items: [], next_cursor: null });
  });
});

/** A key with these scopes alone, of an account of its own. */
async function keyWith(scopes: string[]): Promise<string> {
  const { accountId, key: made } = await makeAccount(database.db);
  await database.sql`UPDATE ringback.api_keys SET scopes = ${scopes} WHERE account_id = ${accountId}`;
  return made;
}

async function eventsAfter(lastEventId: string): Promise<Answer> {
  const { id } = await submit(ask, echo);
  return ask('GET', `/v1/jobs/${id}/events`, undefined, { 'last-event-id': lastEventId });
}

async function reuseKey(): Promise<Answer> {
  const headers = { 'idempotency-key': 'one for two' };
  expect((await ask('POST', '/v1/jobs', echo, headers)).status).toBe(202);
  return ask('POST', '/v1/jobs', { ...echo, input: 2 }, headers);
}

/**
 * The first request is held up: its key cannot be stored for a moment. Answers whichever of the two is answered then; sent
 * again once the first is answered, it gets that answer.
 */
async function askTwiceAtOnce(): Promise<Answer> {
  const send = () => ask('POST', '/v1/jobs', echo, { 'idempotency-key': 'two at once' });
  const { told, both } = await database.db.transaction(async (tx) => {
    await tx`LOCK TABLE ringback.idempotency_keys IN EXCLUSIVE MODE`;
    const sent = [send(), send()];
    return { told: await Promise.race(sent), both: Promise.all(sent) };
  });
  const first = (await both).find(({ status }) => status === 202);
  expect(await send()).toMatchObject({ status: 202, text: first?.text });
  return told;
}

async function beginRun(type = 'remote.number'): Promise<ClaimedRun> {
  const { id } = await submit(ask, { type, input: 1 });
  const run = await claimRun(ask, type, { lease_s: 300 });
  expect(run.job.id).toBe(id);
  return run;
}

async function upload(body: string): Promise<Answer> {
  const run = await beginRun('remote.file');
  const refused = await ask('PUT', `/v1/worker/runs/${run.handle}/result`, body, { 'content-type': 'text/plain' });
  await tell(ask, run, 'complete', { output: 1 });
  return refused;
}

async function completeWith(output: unknown): Promise<Answer> {
  return tell(ask, await beginRun(), 'complete', { output });
}

async function heartbeatAfterEnd(): Promise<Answer> {
  const run = await beginRun();
  expect((await tell(ask, run, 'complete', { output: 1 })).status).toBe(200);
  return tell(ask, run, 'heartbeat');
}

/** Of a run whose lease ran out, sooner than it would. */
async function heartbeatAfterLoss(): Promise<Answer> {
  const run = await beginRun();
  await database.sql`
    UPDATE ringback.run_queue SET lease_expires_at = now() - interval '1 minute' WHERE job_id = ${run.job.id}`;
  await eventually(async () => expect((await endsOf(ask, run.job.id))[0]).toBe('lost'), 20_000);
  const refused = await tell(ask, run, 'heartbeat');
  await tell(ask, await claimRun(ask, 'remote.number'), 'complete', { output: 1 });
  return refused;
}

async function resultOf(submission: object): Promise<Answer> {
  const { id } = await submit(ask, submission);
  return ask('GET', `/v1/jobs/${id}/result`);
}

/** Of a job whose row says that it failed, sooner than its three runs would. */
async function resultOfFailed(): Promise<Answer> {
  const { id } = await submit(ask, echo);
  await untilDone(ask, id);
  await database.sql`
    UPDATE ringback.jobs SET status = 'failed', output = NULL, error = '{"code":"handler_error","message":"for show"}'
    WHERE id = ${id}`;
  return ask('GET', `/v1/jobs/${id}/result`);
}

/** What a fault of ours looks like: a table that the statement needs is away for a moment. */
async function withoutTable(table: string): Promise<Answer> {
  const { sql } = database;
  await sql`ALTER TABLE ringback.${helper(table)} RENAME TO ${helper(`${table}_away`)}`;
  try {
    return await ask('POST', '/v1/endpoints', { url: `https://example.com/${randomBytes(4).toString('hex')}` });
  } finally {
    await sql`ALTER TABLE ringback.${helper(`${table}_away`)} RENAME TO ${helper(table)}`;
  }
}
