import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { startReceiver } from '../support/receiver.ts';
import { client, submit } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';
import { largeValue } from './support/results.config.ts';

const INLINE_BYTES = 1000;

const database = useDatabase();
const key = 'rbk_for-large-callbacks';
const service = useService(() =>
  serviceEnv(database.url, {
    RINGBACK_BOOTSTRAP_KEY: key,
    RINGBACK_CONFIG: 'test/e2e/support/results.config.ts',
    RINGBACK_INLINE_RESULT_BYTES: String(INLINE_BYTES),
  }),
);
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);

/** The job as the callback tells of it, and the bytes of the callback. */
async function toldOf(submission: object) {
  const receiver = await startReceiver();
  const { id } = await submit(ask, { ...submission, callback: { url: receiver.url } });
  const { body, json } = await receiver.next();
  const { job } = (json as { data: { job: { id: string; result_url?: string; result?: object } } }).data;
  expect(job.id).toBe(id);
  return { job, body };
}

const asJson = (text: string) => ({
  content_type: 'application/json',
  bytes: Buffer.byteLength(text),
  sha256: createHash('sha256').update(text).digest('hex'),
});

describe('a callback', () => {
  it('carries an output up to the threshold', async () => {
    const output = 'ä'.repeat((INLINE_BYTES - 2) / 2);
    const { job } = await toldOf({ type: 'ringback.echo', input: output });
    expect(job).toMatchObject({ output });
    expect(job).not.toHaveProperty('result_url');
  });

  it('names one that is a byte longer by its place, its length and its digest', async () => {
    const output = `${'ä'.repeat((INLINE_BYTES - 2) / 2)}x`;
    const { job, body } = await toldOf({ type: 'ringback.echo', input: output });
    expect(job).not.toHaveProperty('output');
    expect(job.result).toEqual(asJson(JSON.stringify(output)));
    expect(body.toString()).not.toContain('ää');
    const response = await fetch(job.result_url!, { headers: { authorization: `Bearer ${key}` } });
    expect(asJson(await response.text()), 'what is there is what was told of').toEqual(job.result);
  });

  it('stays small however large the output is', async () => {
    const { job, body } = await toldOf({ type: 'values.large', input: { items: 50_000 } });
    expect(job.result).toEqual(asJson(JSON.stringify(largeValue(50_000))));
    expect(body.length).toBeLessThan(2000);
  });

  it('never carries a file, however small', async () => {
    const { job, body } = await toldOf({ type: 'files.text', input: { text: 'tiny!', content_type: 'text/plain' } });
    expect(job).not.toHaveProperty('output');
    expect(job.result).toMatchObject({ content_type: 'text/plain', bytes: 5 });
    expect(body.toString()).not.toContain('tiny!');
  });
});
