import type { AccountId, DeliveryId, JobId } from '#domain/ids.ts';
import { type Result, refuse } from '#domain/problem.ts';
import type { Database } from '#store/database.ts';
import {
  type AttemptRecord,
  type DeliveryRecord,
  findDelivery,
  listAttempts,
  listDeliveriesOfJob,
} from '#store/delivery-reads.ts';

export type { AttemptRecord, DeliveryRecord };

/** What clients may ask about their callbacks. */
export class DeliveryQueries {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async find(accountId: AccountId, id: DeliveryId): Promise<Result<DeliveryRecord>> {
    const delivery = await findDelivery(this.#db, accountId, id);
    return delivery === undefined
      ? refuse('delivery_not_found', `There is no delivery ${id}.`)
      : { ok: true, value: delivery };
  }

  /** Empty for a job without callbacks; whether the job exists is the caller's to check. */
  listOfJob(accountId: AccountId, jobId: JobId): Promise<DeliveryRecord[]> {
    return listDeliveriesOfJob(this.#db, accountId, jobId);
  }

  async listAttempts(accountId: AccountId, id: DeliveryId): Promise<Result<AttemptRecord[]>> {
    const delivery = await this.find(accountId, id);
    return delivery.ok ? { ok: true, value: await listAttempts(this.#db, accountId, id) } : delivery;
  }
}
