import { z } from '@hono/zod-openapi';
import { ATTEMPT_OUTCOMES, ATTEMPT_TRIGGERS } from '#domain/attempt.ts';
import { DELIVERY_STATUSES } from '#domain/delivery.ts';
import { DELIVERED_TYPE_FILTERS, SUBSCRIBABLE_EVENT_TYPES } from '#domain/endpoint-policy.ts';
import { timestamp } from './common.ts';

/** A type of what is delivered, or a family of them. */
export const deliveredType = z.enum(DELIVERED_TYPE_FILTERS, `must be one of ${DELIVERED_TYPE_FILTERS.join(', ')}`);

export const deliverySchema = z
  .object({
    id: z.string(),
    event_id: z.string(),
    event_type: z.enum(SUBSCRIBABLE_EVENT_TYPES),
    job_id: z.string().nullable(),
    endpoint_id: z.string(),
    url: z.string(),
    status: z.enum(DELIVERY_STATUSES),
    attempts: z.int(),
    next_attempt_at: timestamp().nullable(),
    created_at: timestamp(),
    updated_at: timestamp(),
    finished_at: timestamp().nullable(),
  })
  .openapi('Delivery');

const milliseconds = z.number().nullable();

export const attemptSchema = z
  .object({
    id: z.string(),
    number: z.int(),
    trigger: z.enum(ATTEMPT_TRIGGERS),
    method: z.string(),
    url: z.string(),
    remote_address: z.string().nullable(),
    request: z.object({
      headers: z.record(z.string(), z.string()).nullable(),
      body_bytes: z.int().nullable(),
      body_sha256: z.string().nullable(),
      signed_by: z.array(z.string()),
    }),
    outcome: z.enum(ATTEMPT_OUTCOMES),
    error: z.object({ code: z.string(), detail: z.string().nullable() }).nullable(),
    response: z
      .object({
        status: z.int(),
        headers: z.array(z.array(z.string())),
        body: z.string().openapi({ description: 'The first bytes, read as UTF-8.' }),
        body_base64: z
          .string()
          .optional()
          .openapi({ description: 'The same, where they are not UTF-8 or end within a character.' }),
        body_bytes: z.int(),
        truncated: z.boolean(),
      })
      .nullable(),
    timings: z.object({
      dns_ms: milliseconds,
      connect_ms: milliseconds,
      tls_ms: milliseconds,
      first_byte_ms: milliseconds,
      total_ms: milliseconds,
    }),
    started_at: timestamp(),
    finished_at: timestamp().nullable(),
    next_attempt_at: timestamp().nullable(),
    worker_id: z.string(),
  })
  .openapi('Attempt');
