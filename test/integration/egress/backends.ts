import type { Readable } from 'node:stream';
import { expect, onTestFinished } from 'vitest';
import {
  type BackendClient,
  type BackendClientOptions,
  type BackendRequest,
  createBackendClient,
} from '#egress/backend-client.ts';
import type { BackendAnswer, BackendResponse } from '#egress/backend-exchange.ts';
import { EgressError } from '#egress/failure.ts';
import { type Receiver, urlOf } from './receivers.ts';

export const MIB = 1024 * 1024;
export const never = new AbortController().signal;

/** The failure of what was ended from here. */
export const STOPPED = { outcome: 'interrupted', code: 'request_stopped' };

export function makeClient(options: Partial<BackendClientOptions> = {}): BackendClient {
  const client = createBackendClient({ userAgent: 'Ringback/test', ...options });
  onTestFinished(() => client.close());
  return client;
}

export function ask(receiver: Receiver | string, changes: Partial<BackendRequest> = {}): BackendRequest {
  const url = typeof receiver === 'string' ? receiver : urlOf(receiver);
  return { url, query: '', method: 'POST', headers: {}, body: '{}', timeoutMs: 10_000, maxBodyBytes: MIB, ...changes };
}

export function responseOf(answer: BackendAnswer): BackendResponse {
  if (!answer.ok) throw new Error(`no response: ${answer.failure.code}`);
  return answer.response;
}

/** Once it has ended, however: `once` would throw what the body failed with. */
export function closed(body: Readable): Promise<void> {
  return new Promise((resolve) => void body.once('close', resolve));
}

export async function failureOf(body: Promise<unknown>): Promise<unknown> {
  return body.then(
    () => expect.fail('it did not fail'),
    (error: unknown) => (error instanceof EgressError ? error.failure : error),
  );
}
