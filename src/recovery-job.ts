import { z } from 'zod';
import { RECOVERABLE, RECOVERY_JOB, type Redelivery } from '#callbacks/redelivery.ts';
import { DELIVERY_STATUSES } from '#domain/delivery.ts';
import { DELIVERED_TYPE_FILTERS } from '#domain/endpoint-policy.ts';
import { type AccountId, parseId } from '#domain/ids.ts';
import { type AnyJobDefinition, defineJob, NonRetryableError } from '#jobs/type/define.ts';

const input = z.strictObject({
  endpoint_id: z.string(),
  to_endpoint_id: z.string().nullable().default(null),
  since: z.iso.datetime({ offset: true }),
  until: z.iso.datetime({ offset: true }),
  statuses: z.array(z.enum(DELIVERY_STATUSES)).default([...RECOVERABLE]),
  event_types: z.array(z.enum(DELIVERED_TYPE_FILTERS)).nullable().default(null),
});

const END_OF_TIMES = Date.UTC(10_000, 0);

/** Before 1970 nothing was made. PostgreSQL knows no year 0, and would not read one after 9999 as JavaScript writes it. */
function bounded(moment: string): Date {
  return new Date(Math.min(Math.max(0, Date.parse(moment)), END_OF_TIMES - 1));
}

/**
 * A recovery is a job as any other: it shows its progress, can be canceled, and goes on when its worker dies. `using` is asked
 * when one runs: job types are there before the parts that they use.
 */
export function recoveryJob(using: () => Pick<Redelivery, 'checkRecovery' | 'recover'>): AnyJobDefinition {
  return defineJob({
    type: RECOVERY_JOB,
    input,
    timeoutMs: 3_600_000,
    run: async ({ input: wanted, job, signal, progress }) => {
      const endpointId = parseId('ep', wanted.endpoint_id);
      if (endpointId === undefined) throw new NonRetryableError(`${wanted.endpoint_id} is no endpoint's id`);
      const to = wanted.to_endpoint_id === null ? null : parseId('ep', wanted.to_endpoint_id);
      if (to === undefined) throw new NonRetryableError(`${wanted.to_endpoint_id} is no endpoint's id`);
      const accountId = job.accountId as AccountId;
      const redelivery = using();
      // It may be disabled or gone by now; and who submits the job by themselves may name anybody's, and any.
      const checked = await redelivery.checkRecovery(accountId, { endpointId, to });
      if (!checked.ok) throw new NonRetryableError(checked.detail);
      const recovery = {
        endpointId,
        to,
        since: bounded(wanted.since),
        until: bounded(wanted.until),
        statuses: wanted.statuses,
        eventTypes: wanted.event_types,
      };
      return { queued: await redelivery.recover(accountId, recovery, { signal, progress }) };
    },
  });
}
