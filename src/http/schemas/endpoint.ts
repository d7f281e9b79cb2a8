import { z } from '@hono/zod-openapi';
import { CIRCUIT_STATES } from '#domain/circuit.ts';
import { headerFault, MAX_HEADERS } from '#domain/endpoint-settings.ts';
import { DELIVERY_ORDERS, DISABLED_REASONS, ENDPOINT_STATUSES, EVENT_FILTERS } from '#domain/endpoint-policy.ts';
import { attemptSchema } from './callback.ts';
import { idSchema, moment, storable, timestamp, UNSTORABLE } from './common.ts';
import { submissionSchema } from './job.ts';
import { newSecretMembers } from './secret.ts';

const url = z.string().min(1).max(4000);
const THREE_WEEKS_MS = 21 * 86_400_000;

const headers = z
  .record(z.string(), z.string())
  .superRefine((given, context) => {
    const names = Object.keys(given);
    if (names.length > MAX_HEADERS)
      context.addIssue({ code: 'custom', message: `may have ${MAX_HEADERS} members at most` });
    if (new Set(names.map((name) => name.toLowerCase())).size < names.length)
      context.addIssue({ code: 'custom', message: 'names a header twice' });
    for (const name of names) {
      const fault = headerFault(name, given[name]!);
      if (fault !== undefined) context.addIssue({ code: 'custom', path: [name], message: fault });
    }
  })
  .openapi({ type: 'object', additionalProperties: { type: 'string' }, example: { 'X-Tenant': '4711' } });

const pem = (max: number) => z.string().min(1).max(max).refine(storable, UNSTORABLE);

const tlsSchema = z
  .strictObject({
    authorities: pem(32_768).nullable().optional().openapi({
      description: 'PEM. Whom to trust for this endpoint, instead of the well-known authorities.',
    }),
    certificate: pem(32_768).nullable().optional().openapi({
      description: 'PEM. What is shown to a receiver that asks for a client certificate, its chain behind it.',
    }),
    key: pem(16_384).optional().openapi({
      writeOnly: true,
      description: 'PEM, not encrypted: the private key of the certificate. Comes with it, and is never shown.',
    }),
  })
  .nullable()
  .openapi({ description: 'Of an https URL. What is left out stays; null removes it, or all of it.' });

const certificateSchema = z.object({
  subject: z.string(),
  issuer: z.string(),
  fingerprint_sha256: z.string(),
  valid_from: timestamp(),
  valid_to: timestamp(),
});

const settings = {
  description: z.string().max(500).refine(storable, UNSTORABLE).nullable(),
  metadata: submissionSchema.shape.metadata.unwrap(),
  event_types: z
    .array(z.string().refine((type) => EVENT_FILTERS.includes(type), `must be one of ${EVENT_FILTERS.join(', ')}`))
    .max(50)
    .openapi({
      description: 'Events of the whole account that it is told of. Empty: only those of jobs that name it.',
      example: ['job.*', 'endpoint.disabled'],
    }),
  headers: headers.openapi({ description: 'Sent with every request besides ours.' }),
  timeout_ms: z.int().min(100).max(120_000).nullable(),
  concurrency: z.int().min(1).max(1000).nullable().openapi({ description: 'Requests at once.' }),
  rate_per_second: z.number().min(0.01).max(10_000).nullable().openapi({ description: 'Requests a second.' }),
  retry_schedule_ms: z
    .array(z.int().min(0).max(THREE_WEEKS_MS))
    .min(1)
    .max(50)
    .refine((delays) => delays[0] === 0, 'must begin with 0: the first attempt is made at once')
    .nullable()
    .openapi({ description: 'The delay before each attempt.', example: [0, 5000, 300_000] }),
  ordering: z.enum(DELIVERY_ORDERS).openapi({
    description:
      '`none`: what is due is sent. `job`: the events of one job in order. `endpoint`: everything in order, one at a time; ' +
      'what fails holds up what follows until it is delivered or exhausted.',
  }),
};

export const newEndpointSchema = z
  .strictObject({ url, ...z.object(settings).partial().shape, tls: tlsSchema.optional(), ...newSecretMembers })
  .openapi('NewEndpoint');

/** Null leaves it to the configuration again. */
export const endpointChangesSchema = z
  .strictObject({ url, ...settings, tls: tlsSchema })
  .partial()
  .openapi('EndpointChanges');

export const endpointSchema = z
  .object({
    id: z.string(),
    url: z.string(),
    ...settings,
    tls: z
      .object({
        authorities: z.string().nullable().openapi({ description: 'PEM, as it was given.' }),
        certificate: certificateSchema.nullable(),
      })
      .nullable(),
    registered: z.boolean().openapi({ description: 'False for a URL that only jobs have named.' }),
    status: z.enum(ENDPOINT_STATUSES).openapi({
      description: '`unverified`: nothing but a challenge is sent until it is echoed; what is due waits.',
    }),
    disabled_reason: z.enum(DISABLED_REASONS).nullable(),
    health: z.object({
      circuit: z.enum(CIRCUIT_STATES).openapi({ description: '`open`: nothing is sent before `resumes_at`.' }),
      resumes_at: timestamp().nullable(),
      consecutive_failures: z.int(),
      failing_since: timestamp().nullable(),
      last_success_at: timestamp().nullable(),
      last_failure_at: timestamp().nullable(),
      backlog: z.int().openapi({ description: 'Deliveries that are due and not sent yet; counted to 10,000.' }),
      success_rate: z
        .number()
        .min(0)
        .max(1)
        .nullable()
        .openapi({
          description:
            'The share of `recent` that was delivered. What has yet to be tried again counts as not delivered. When none of the newest ' +
            '1,000 deliveries has been attempted: 0 while attempts fail, otherwise null.',
        }),
      recent: z
        .object({ attempted: z.int(), delivered: z.int() })
        .openapi({ description: 'Of the latest deliveries that were attempted, up to 100.' }),
    }),
    created_at: timestamp(),
    updated_at: timestamp(),
    signing_secret: z.string().optional().openapi({ description: 'Only when this request made the endpoint.' }),
    verification: attemptSchema
      .optional()
      .openapi({ description: 'Only when this request had a challenge sent: how it was answered.' }),
  })
  .openapi('Endpoint');

export const redeliverySchema = z
  .strictObject({
    retry: z
      .boolean()
      .optional()
      .openapi({ description: 'With a fresh schedule; otherwise once. True when left out.' }),
    endpoint_id: z.string().optional().openapi({ description: 'Another endpoint that is to get the event.' }),
  })
  .openapi('Redelivery');

export const recoverySchema = z
  .strictObject({
    since: moment,
    until: moment.optional().openapi({ description: 'Now when left out.' }),
    statuses: z
      .array(z.enum(['held', 'exhausted', 'discarded', 'delivered']))
      .min(1)
      .optional()
      .openapi({ description: 'All but `delivered` when left out.' }),
    endpoint_id: idSchema('ep').optional().openapi({ description: 'Another endpoint that is to get the events.' }),
    event_types: z.array(z.string()).min(1).max(50).optional(),
  })
  .openapi('Recovery');
