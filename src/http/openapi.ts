import type { OpenAPIHono } from '@hono/zod-openapi';
import type { Env } from './env.ts';
import { WEBHOOK_HEADERS, WEBHOOKS } from './schemas/webhook.ts';

/** OpenAPI 3.1, from the schemas that validate. */
export function openApiDocument(app: OpenAPIHono<Env>, { version, publicUrl }: { version: string; publicUrl: string }) {
  const { openAPIRegistry: registry } = app;
  registry.registerComponent('securitySchemes', 'apiKey', {
    type: 'http',
    scheme: 'bearer',
    description: 'An API key: rbk_...',
  });
  for (const { type, summary, description = '', body, responses } of WEBHOOKS)
    registry.registerWebhook({
      method: 'post',
      path: type,
      summary,
      description: `${description} Signed per Standard Webhooks 1.0: see docs/guides/verify-a-callback.md.`.trim(),
      security: [],
      parameters: WEBHOOK_HEADERS,
      request: { body: { required: true, content: { 'application/json': { schema: body } } } },
      responses,
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
