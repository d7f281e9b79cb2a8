import { z } from 'zod';
import { RECOVERABLE, RECOVERY_JOB, type Redelivery } from '#callbacks/redelivery.ts';
import { DELIVERY_STATUSES } from '#domain/delivery.ts';
import { type AccountId, parseId } from '#domain/ids.ts';
import { type AnyJobDefinition, defineJob, NonRetryableError } from '#jobs/type/define.ts';

const input = z.strictObject({
  endpoint_id: z.string(),
  to_endpoint_id: z.string().nullable().default(null),
  since: z.iso.datetime({ offset: true }),
  until: z.iso.datetime({ offset: true }),
  statuses: z.array(z.enum(DELIVERY_STATUSES)).default([...RECOVERABLE]),
  event_types: z.array(z.string()).nullable().default(null),
});

/** A recovery is a job as any other: it shows its progress, can be canceled, and goes on when its worker dies. */
export function recoveryJob(redelivery: Pick<Redelivery, 'recover'>): AnyJobDefinition {
  return defineJob({
    type: RECOVERY_JOB,
    input,
    timeoutMs: 3_600_000,
    run: async ({ input: wanted, job, signal, progress }) => {
      const endpointId = parseId('ep', wanted.endpoint_id);
      if (endpointId === undefined) throw new NonRetryableError(`${wanted.endpoint_id} is no endpoint's id`);
      const to = wanted.to_endpoint_id === null ? null : parseId('ep', wanted.to_endpoint_id);
      if (to === undefined) throw new NonRetryableError(`${wanted.to_endpoint_id} is no endpoint's id`);
      const recovery = {
        endpointId,
        to,
        since: new Date(wanted.since),
        until: new Date(wanted.until),
        statuses: wanted.statuses,
        eventTypes: wanted.event_types,
      };
      const accountId = job.accountId as AccountId;
      return { queued: await redelivery.recover(accountId, recovery, { signal, progress }) };
    },
  });
}
