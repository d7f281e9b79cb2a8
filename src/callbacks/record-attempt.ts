import type { JobId } from '#domain/ids.ts';
import type { Logger } from '#log.ts';
import type { Database } from '#store/database.ts';
import type { InterruptedAttempt, Settlement } from '#store/deliveries.ts';
import { hasAttempt } from '#store/delivery-reads.ts';
import { isTransient, sqlStateOf } from '#store/transient.ts';
import type { Made } from './settle.ts';

export interface RecordDeps {
  readonly db: Database;
  readonly log: Logger;
  /** Settles an attempt, again for as long as what fails may pass; false when its fence refused it. */
  readonly persist: (made: Made) => Promise<boolean>;
  readonly advanceJobs: (jobIds: readonly JobId[]) => void;
}

/**
 * Records an attempt, with as much of it as the database takes: the whole of it; without what the receiver sent, should that be
 * refused for good; or only that it was made. Its delivery goes on as the receiver answered in each case.
 * @returns what was recorded; undefined when another process had recorded it as interrupted
 * @throws when not even that could be stored, or when it was given up: the attempt is then left to its lease
 */
export async function recordAttempt(made: Made, deps: RecordDeps): Promise<Settlement | undefined> {
  let refusal: unknown;
  for (const reduce of [whole, withoutResponse, withoutAnswer]) {
    const settlement = reduce(made.settlement, refusal);
    try {
      return (await recordOnce({ ...made, settlement }, deps)) ? settlement : undefined;
    } catch (error) {
      if (isTransient(error)) throw error;
      refusal = error;
      const { id: delivery_id, attemptId: attempt_id } = settlement.delivery;
      deps.log.error({ err: error, delivery_id, attempt_id }, 'the record of an attempt was refused');
    }
  }
  throw refusal;
}

/** Refused after an error, it may have been written by the try that failed: the connection was lost after the commit. */
async function recordOnce(made: Made, { db, persist, advanceJobs }: RecordDeps): Promise<boolean> {
  if (await persist(made)) return true;
  const { delivery, result } = made.settlement;
  if (!(await hasAttempt(db, { ...delivery, startedAt: result.startedAt, outcome: result.outcome }))) return false;
  if (delivery.jobId !== null) advanceJobs([delivery.jobId]);
  return true;
}

const whole = (settlement: Settlement): Settlement => settlement;

function withoutResponse(settlement: Settlement, refusal: unknown): Settlement {
  const { result } = settlement;
  if (result.outcome === 'interrupted' || !('response' in result)) return settlement;
  const errorDetail = `What the receiver sent could not be stored (${sqlStateOf(refusal)}).`;
  const response = result.response && {
    ...result.response,
    headers: [],
    bodyPrefix: new Uint8Array(),
    truncated: true,
  };
  return { ...settlement, result: { ...result, errorDetail, response } };
}

function withoutAnswer(settlement: Settlement, refusal: unknown): Settlement {
  const { result } = settlement;
  const status = 'response' in result && result.response !== null ? ` with status ${result.response.status}` : '';
  const interrupted: InterruptedAttempt = {
    outcome: 'interrupted',
    errorCode: 'record_refused',
    errorDetail: `The attempt ended as ${result.outcome}${status}, but its record could not be stored (${sqlStateOf(refusal)}).`,
    startedAt: result.startedAt,
  };
  return { ...settlement, requestHeaders: null, bodySha256: null, bodyBytes: null, signedBy: [], result: interrupted };
}
