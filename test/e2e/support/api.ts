import { expect } from 'vitest';
import { eventually } from '../../support/eventually.ts';

/** One answer of the API. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  // eslint-disable-next-line -- what a test expects of it, the test says
  readonly json: any;
}

/** Asks as a client with that key does; an object as `body` travels as JSON, a string as it is. */
export type Ask = (method: string, path: string, body?: unknown, headers?: Record<string, string>) => Promise<Answer>;

export function client(url: string, key: string): Ask {
  return async (method, path, body, headers = {}) => {
    const response = await fetch(`${url}${path}`, {
      method,
      redirect: 'manual',
      headers: {
        authorization: `Bearer ${key}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    const isJson = /[/+]json\b/.test(response.headers.get('content-type') ?? '') && text !== '';
    return { status: response.status, headers: response.headers, text, json: isJson ? JSON.parse(text) : undefined };
  };
}

/** Submits, expects the 202, answers the job. */
export async function submit(ask: Ask, submission: object) {
  const accepted = await ask('POST', '/v1/jobs', submission);
  expect(accepted.status, accepted.text).toBe(202);
  return accepted.json;
}

/** Polls until the job is done; answers it. */
export function untilDone(ask: Ask, id: string, timeoutMs = 15_000) {
  return eventually(async () => {
    const { json } = await ask('GET', `/v1/jobs/${id}`);
    expect(json).toMatchObject({ id, done: true });
    return json;
  }, timeoutMs);
}
