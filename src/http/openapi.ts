import type { OpenAPIHono } from '@hono/zod-openapi';
import { callbackEventSchema } from './schemas/callback.ts';
import type { Env } from './env.ts';

/** OpenAPI 3.1, from the schemas that validate. */
export function openApiDocument(app: OpenAPIHono<Env>, { version, publicUrl }: { version: string; publicUrl: string }) {
  const { openAPIRegistry: registry } = app;
  registry.registerComponent('securitySchemes', 'apiKey', {
    type: 'http',
    scheme: 'bearer',
    description: 'An API key: rbk_...',
  });
  registry.registerWebhook({
    method: 'post',
    path: 'job.ended',
    summary: 'A job ended',
    description: 'Signed per Standard Webhooks 1.0: webhook-id, webhook-timestamp, webhook-signature.',
    request: { body: { content: { 'application/json': { schema: callbackEventSchema } } } },
    responses: { 200: { description: 'Any 2xx: received. Anything else is retried.' } },
  });
  return app.getOpenAPI31Document({
    openapi: '3.1.0',
    info: {
      title: 'Ringback',
      version,
      description: 'Submit slow work, get a reference at once and a signed callback.',
    },
    servers: [{ url: publicUrl }],
    security: [{ apiKey: [] }],
  });
}
