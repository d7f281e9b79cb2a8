import { type DeliveryId, type EndpointId, newId } from '#domain/ids.ts';
import type { CallbackEventType } from '#domain/job.ts';
import type { JobRecord } from '#store/jobs.ts';
import type { EventBody } from '#store/tell-runs.ts';
import { jobJson } from '../read/job-view.ts';

/** What a callback says of a job: rendered once, for every attempt and for whoever reads the feed. */
export function eventBody(type: CallbackEventType, job: JobRecord, publicUrl: string, now: Date): EventBody {
  return eventBodyOf(type, jobJson(job, publicUrl), now);
}

/** @param view the job as clients see it, as JSON */
export function eventBodyOf(type: CallbackEventType, view: string, now: Date): EventBody {
  return [`{"type":"${type}","timestamp":"${now.toISOString()}","sequence":`, `,"data":{"job":${view}}}`];
}

/** The duty to bring an event where the job itself says; null when it does not ask for such. */
export function namedDelivery(
  { callbackEndpointId: endpointId, callbackEvents }: Pick<JobRecord, 'callbackEndpointId' | 'callbackEvents'>,
  type: CallbackEventType,
  now: Date,
): { readonly id: DeliveryId; readonly endpointId: EndpointId } | null {
  if (endpointId === null || callbackEvents?.includes(type) !== true) return null;
  return { id: newId('dlv', now.getTime()), endpointId };
}
