import { z } from '@hono/zod-openapi';
import { ENDPOINT_EVENT_TYPES, type EndpointEventType } from '#domain/endpoint-event.ts';
import type { EndpointEventData } from '#domain/endpoint-event-data.ts';
import { DISABLED_REASONS, type SubscribableEventType } from '#domain/endpoint-policy.ts';
import { CALLBACK_EVENT_TYPES, type CallbackEventType } from '#domain/job.ts';
import { timestamp } from './common.ts';
import { jobSchema } from './job.ts';

/** What a callback carries, by its type: the same bytes in every attempt. */
export interface Webhook {
  readonly type: SubscribableEventType;
  readonly summary: string;
  readonly description?: string;
  readonly body: z.ZodType;
  /** What a receiver's answer means, by its status. */
  readonly responses: typeof RECEIVED | typeof ECHOED;
}

const SLOW_DOWN =
  'Asks for less: nothing is sent to the endpoint for a while, or as long as `Retry-After` says, then a few at a time.';

/** Whatever the body of the answer says is kept on record, and read by nobody but people. */
const RECEIVED = {
  '2XX': { description: 'Received: it is not sent again, unless that is asked for.' },
  '3XX': { description: 'A failure: redirects are never followed.' },
  410: { description: 'Nobody is there any more: the endpoint is disabled, and what is for it is held.' },
  429: { description: SLOW_DOWN },
  502: { description: SLOW_DOWN },
  503: { description: SLOW_DOWN },
  504: { description: SLOW_DOWN },
  default: {
    description:
      'A failure, as is no answer within the time limit of the endpoint: tried again by its schedule, no sooner than ' +
      '`Retry-After` says (seconds or a date, a day at most), until that is used up.',
  },
};

const CHALLENGE = z.object({ challenge: z.string() });

const ECHOED = {
  '2XX': {
    description:
      'The endpoint is verified if the body is the challenge, alone or as this JSON, and nothing else. Its content type is not looked at.',
    content: { 'application/json': { schema: CHALLENGE }, 'text/plain': { schema: z.string() } },
  },
  default: {
    description: 'Verifies nothing. A challenge is sent once: `POST /v1/endpoints/{id}/verify` sends another one.',
  },
};

const UNASKED = 'Goes to that endpoint only, whatever it subscribes to.';
const OF_OTHERS = 'Goes to the endpoints of the account that subscribe to it, except the one that it is about.';

const JOB_EVENTS: Record<CallbackEventType, Pick<Webhook, 'summary' | 'description'>> = {
  'job.queued': { summary: 'A job was submitted', description: 'Told only where it is asked for by its name.' },
  'job.started': { summary: 'The first run of a job began' },
  'job.progress': {
    summary: 'A job got on',
    description: 'Now and then, with the latest progress: what waits to be sent is superseded by what follows.',
  },
  'job.succeeded': {
    summary: 'A job succeeded',
    description: 'With its output; a large one, or one that is not JSON, is named by `result_url`, length and SHA-256.',
  },
  'job.failed': { summary: 'A job failed, and is not tried again' },
  'job.canceled': { summary: 'A job was called off' },
  'job.expired': { summary: 'A job was not started by its `expires_at`' },
};

const ENDPOINT_EVENTS: Record<EndpointEventType, Pick<Webhook, 'summary' | 'description'>> = {
  'endpoint.disabled': { summary: 'An endpoint was given up on', description: OF_OTHERS },
  'endpoint.recovered': { summary: 'An endpoint takes callbacks again', description: OF_OTHERS },
  'endpoint.ping': { summary: 'Somebody tries the endpoint out', description: UNASKED },
  'endpoint.challenge': { summary: 'To be echoed by whoever owns the endpoint', description: UNASKED },
  'delivery.exhausted': { summary: 'The last attempt of a delivery failed', description: OF_OTHERS },
};

/** Held equal to what is rendered (`endpointEvent`) by the type. */
const ENDPOINT_DATA = {
  'endpoint.disabled': z.object({
    reason: z.enum(DISABLED_REASONS).openapi({
      description: '`gone`: it answered 410. `failing`: nothing has succeeded for five days.',
    }),
  }),
  'endpoint.recovered': z.object({}),
  'endpoint.ping': z.object({}),
  'endpoint.challenge': CHALLENGE,
  'delivery.exhausted': z.object({
    delivery: z.object({
      id: z.string(),
      event_id: z.string(),
      job_id: z.string().nullable(),
      attempts: z.int(),
      last_error: z.string().nullable().openapi({ description: '`error.code` of the last attempt.' }),
    }),
  }),
} as const satisfies { readonly [T in EndpointEventType]: z.ZodObject & z.ZodType<EndpointEventData[T]> };

/** `JobSucceededEvent` of `job.succeeded`. */
function nameOf(type: SubscribableEventType): string {
  const [family, what] = type.split('.').map((word) => `${word[0]!.toUpperCase()}${word.slice(1)}`);
  return `${family}${what}Event`;
}

function jobWebhook(type: CallbackEventType): Webhook {
  const body = z.object({
    type: z.literal(type),
    timestamp: timestamp().openapi({ description: 'When it happened; not when it is sent.' }),
    sequence: z.int().openapi({ description: 'Counts the events of the job from 1: what is lower is older.' }),
    data: z.object({ job: jobSchema }),
  });
  return { type, ...JOB_EVENTS[type], body: body.openapi(nameOf(type)), responses: RECEIVED };
}

function endpointWebhook(type: EndpointEventType): Webhook {
  const endpoint = z.object({ id: z.string() }).openapi({ description: 'The endpoint that it is about.' });
  const body = z.object({
    type: z.literal(type),
    timestamp: timestamp().openapi({ description: 'When it happened; not when it is sent.' }),
    data: z.object({ endpoint, ...ENDPOINT_DATA[type].shape }),
  });
  const responses = type === 'endpoint.challenge' ? ECHOED : RECEIVED;
  return { type, ...ENDPOINT_EVENTS[type], body: body.openapi(nameOf(type)), responses };
}

export const WEBHOOKS: readonly Webhook[] = [
  ...CALLBACK_EVENT_TYPES.map(jobWebhook),
  ...ENDPOINT_EVENT_TYPES.map(endpointWebhook),
];

const header = (name: string, description: string, example: string) => ({
  name,
  in: 'header' as const,
  required: true,
  description,
  schema: { type: 'string' as const, example },
});

export const WEBHOOK_HEADERS = [
  header('webhook-id', 'The id of the event: the same in every attempt.', 'evt_01h455vb4pex5vsknk084sn02q'),
  header('webhook-timestamp', 'Unix seconds of this attempt. Refuse what is minutes off.', '1614265330'),
  header(
    'webhook-signature',
    'One signature for each active secret, with a blank between: `v1,` and base64 of HMAC-SHA256, or `v1a,` and base64 of ' +
      'ed25519, over `{webhook-id}.{webhook-timestamp}.{body}`.',
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  ),
];
