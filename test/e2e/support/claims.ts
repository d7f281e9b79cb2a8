import { expect } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { type Ask, submit } from './api.ts';

/** A run as a worker is given it. */
export interface ClaimedRun {
  readonly handle: string;
  readonly run_id: string;
  readonly number: number;
  readonly job: { readonly id: string; readonly type: string };
  readonly input: unknown;
  readonly lease_expires_at: string;
  readonly deadline_at: string;
  readonly heartbeat_after_s: number;
}

/** Claims as the worker `test` does; expects no refusal. */
export async function claimRuns(ask: Ask, types: readonly string[], wish: object = {}): Promise<ClaimedRun[]> {
  const claimed = await ask('POST', '/v1/worker/claims', { types, worker: 'test', ...wish });
  expect(claimed.status, claimed.text).toBe(200);
  return claimed.json.runs;
}

/** Claims one, which must be there within a while. */
export function claimRun(ask: Ask, type: string, wish: object = {}): Promise<ClaimedRun> {
  return eventually(async () => {
    const [run] = await claimRuns(ask, [type], wish);
    if (run === undefined) throw new Error(`no run of ${type} to claim`);
    return run;
  }, 30_000);
}

/** A job of the type `test.raw`, unless told otherwise, and the run of it: the only one of its type that waits. */
export async function beginRun(ask: Ask, submission: object, wish: object): Promise<ClaimedRun> {
  const wanted = { type: 'test.raw', input: { a: 1 }, ...submission };
  const { id } = await submit(ask, wanted);
  const run = await claimRun(ask, wanted.type, wish);
  expect(run.job.id).toBe(id);
  return run;
}

/** Tells something about a run. */
export function tell(ask: Ask, { handle }: { handle: string }, what: string, body: unknown = {}) {
  return ask('POST', `/v1/worker/runs/${handle}/${what}`, body);
}

/** A job's runs, as they ended. */
export async function endsOf(ask: Ask, jobId: string): Promise<string[]> {
  const { json } = await ask('GET', `/v1/jobs/${jobId}/runs`);
  return json.items.map(({ status }: { status: string }) => status);
}
