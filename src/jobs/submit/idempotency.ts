import { timingSafeEqual } from 'node:crypto';
import type { Clock } from '#domain/clock.ts';
import type { AccountId } from '#domain/ids.ts';
import { type Result, refuse } from '#domain/problem.ts';
import { open, seal, type SecretKey } from '#domain/secret-box.ts';
import type { Database } from '#store/database.ts';
import { findIdempotencyKey, type IdempotencyRecord } from '#store/idempotency.ts';
import type { NewIdempotencyKey, NewJob } from '#store/jobs.ts';
import type { Accepted } from './submit.ts';

/** A submission under an `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header). */
export interface IdempotentRequest {
  readonly key: string;
  /** SHA-256 of what was submitted. */
  readonly fingerprint: Buffer;
}

/** How long a key is remembered. */
const KEY_LIFE_MS = 24 * 60 * 60 * 1000;
/** How long a second request waits for the first one's answer: less than the first may wait for the database. */
const PATIENCE_MS = 2000;

interface InFlight {
  readonly fingerprint: Buffer;
  readonly answer: Promise<Result<Accepted>>;
}

/**
 * One job for all submissions under one key, and one answer. The key is stored with the job, in one statement, so there is
 * no state in between that a dead process could leave behind; of two at once in different processes the second waits in
 * the database for the first. Those in this process share the first one's answer.
 */
export class Idempotency {
  readonly #db: Database;
  readonly #clock: Clock;
  readonly #keys: readonly SecretKey[];
  readonly #inFlight = new Map<string, InFlight>();

  constructor({ db, clock, keys }: { db: Database; clock: Clock; keys: readonly SecretKey[] }) {
    this.#db = db;
    this.#clock = clock;
    this.#keys = keys;
  }

  /** Stores once under a key: looks it up first, so that a replay pays for no validation and no endpoint. */
  async once(
    accountId: AccountId,
    request: IdempotentRequest,
    store: () => Promise<Result<Accepted>>,
  ): Promise<Result<Accepted>> {
    const name = `${accountId} ${request.key}`;
    const first = this.#inFlight.get(name);
    if (first !== undefined && timingSafeEqual(first.fingerprint, request.fingerprint)) return share(first);
    if (first !== undefined) {
      // Whether the key is that other payload's is decided with its commit: another process may be ahead of it, with ours.
      if ((await inTime(first)) === undefined) return inFlight();
      return this.once(accountId, request, store);
    }
    const answer = this.#lookUp(accountId, request).then((replay) => replay ?? store());
    this.#inFlight.set(name, { fingerprint: request.fingerprint, answer });
    try {
      return await answer;
    } finally {
      this.#inFlight.delete(name);
    }
  }

  /** The answer to a submission whose key was taken while it was being stored. */
  async replay(accountId: AccountId, request: IdempotentRequest | undefined): Promise<Result<Accepted>> {
    const found = request && (await this.#lookUp(accountId, request));
    // Taken a moment ago and gone already: only a clock that jumps does that.
    return found ?? refuse('idempotency_in_flight', 'The key is in use just now; send the request again.');
  }

  async #lookUp(accountId: AccountId, request: IdempotentRequest): Promise<Result<Accepted> | undefined> {
    const record = await findIdempotencyKey(this.#db, accountId, request.key, this.#clock.now());
    if (record === undefined) return undefined;
    if (!timingSafeEqual(record.fingerprint, request.fingerprint)) return mismatch();
    const body = this.#open(accountId, request.key, record);
    const { type } = JSON.parse(body) as { type: string };
    return { ok: true, value: { id: record.jobId, type, body, replayed: true } };
  }

  /** What is stored with the job: the answer itself, encrypted when it shows a signing secret. */
  record(
    job: NewJob,
    request: IdempotentRequest,
    { body, holdsSecret }: { body: string; holdsSecret: boolean },
  ): NewIdempotencyKey {
    const plain = { ciphertext: Buffer.from(body), keyId: null };
    const { ciphertext, keyId } = holdsSecret
      ? seal(this.#keys, contextOf(job.accountId, request.key), plain.ciphertext)
      : plain;
    return {
      key: request.key,
      fingerprint: request.fingerprint.toString('hex'),
      response: Buffer.from(ciphertext).toString('base64'),
      responseKeyId: keyId,
      expiresAt: new Date(job.createdAt.getTime() + KEY_LIFE_MS),
    };
  }

  #open(accountId: AccountId, key: string, { response, responseKeyId }: IdempotencyRecord): string {
    if (responseKeyId === null) return Buffer.from(response).toString();
    const sealed = { keyId: responseKeyId, ciphertext: response };
    return Buffer.from(open(this.#keys, contextOf(accountId, key), sealed)).toString();
  }
}

async function share(first: InFlight): Promise<Result<Accepted>> {
  const shared = (await inTime(first)) ?? inFlight();
  return shared.ok ? { ok: true, value: { ...shared.value, replayed: true } } : shared;
}

/** The first one's answer, should it come before our patience is over. */
async function inTime({ answer }: InFlight): Promise<Result<Accepted> | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => resolve(undefined), PATIENCE_MS);
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}

function inFlight(): Result<never> {
  const detail = 'The first request under this key is still being answered; send this one again in a second.';
  return refuse('idempotency_in_flight', detail, { retryAfter: 1 });
}

function mismatch(): Result<never> {
  const detail = 'This Idempotency-Key was used for another payload. Send the same payload again, or take a new key.';
  return refuse('idempotency_key_reused', detail);
}

/** Whose answer it is: authenticated with it, so that a row cannot be moved. */
function contextOf(accountId: AccountId, key: string): string {
  return `idempotency ${accountId} ${key}`;
}
