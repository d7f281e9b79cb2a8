import { createRoute, OpenAPIHono, z } from '@hono/zod-openapi';
import type { PublicKeyRecord, RotatedSecret, SecretRecord, Secrets } from '#callbacks/secrets.ts';
import { formatPublicKey } from '#domain/signing-secret.ts';
import type { Env } from '../env.ts';
import { optionalJsonBody } from '../middleware/json-body.ts';
import { problem } from '../problem.ts';
import { encodeCursor, idSchema, json, openProblems, pageOf, pageQuery, problems } from '../schemas/common.ts';
import { keySetSchema, rotatedSecretSchema, rotationSchema, secretSchema } from '../schemas/secret.ts';
import { onInvalid } from '../validation.ts';

const endpointById = { params: z.object({ id: idSchema('ep') }) };

export interface SecretRoutesDeps {
  readonly secrets: Secrets;
  readonly maxBodyBytes: number;
}

export function secretRoutes({ secrets, maxBodyBytes }: SecretRoutesDeps) {
  const rotate = createRoute({
    method: 'post',
    path: '/v1/endpoints/{id}/rotate-secret',
    summary: 'Give an endpoint a new signing secret',
    description: 'Made here, or yours. The old ones sign beside it for a grace.',
    middleware: [optionalJsonBody(maxBodyBytes)] as const,
    request: {
      ...endpointById,
      body: { required: false, content: { 'application/json': { schema: rotationSchema } } },
    },
    responses: {
      200: json(rotatedSecretSchema, 'The new secret, shown this once.'),
      ...problems(400, 404, 409, 413, 415, 422),
    },
  });
  const list = createRoute({
    method: 'get',
    path: '/v1/endpoints/{id}/secrets',
    summary: 'What has signed for an endpoint, newest first',
    description: 'Never the secrets themselves.',
    request: { ...endpointById, query: pageQuery('sec') },
    responses: { 200: json(pageOf(secretSchema), 'A page of secrets.'), ...problems(400, 404) },
  });

  return new OpenAPIHono<Env>({ defaultHook: onInvalid })
    .openapi(rotate, async (c) => {
      const { scheme, signing_secret: secret, grace_ms: graceMs } = c.req.valid('json');
      const { accountId } = c.get('apiKey');
      const rotated = await secrets.rotate(accountId, c.req.valid('param').id, { scheme, secret, graceMs });
      return rotated.ok ? c.json(viewRotated(rotated.value), 200) : problem(c, rotated);
    })
    .openapi(list, async (c) => {
      const { limit, cursor } = c.req.valid('query');
      const page = { ...(cursor && { before: cursor }), limit };
      const listed = await secrets.list(c.get('apiKey').accountId, c.req.valid('param').id, page);
      if (!listed.ok) return problem(c, listed);
      const last = listed.value.length === limit ? listed.value.at(-1) : undefined;
      const nextCursor = last === undefined ? null : encodeCursor(last.id);
      return c.json({ items: listed.value.map(viewSecret), next_cursor: nextCursor }, 200);
    });
}

/** For as long as a key may be kept without asking: a rotation's grace is longer, unless the old key is to be trusted no more. */
const KEYS_MAX_AGE_S = 300;

/** For receivers; no key needed. */
export function keySetRoutes({ secrets }: Pick<SecretRoutesDeps, 'secrets'>) {
  const keySet = createRoute({
    method: 'get',
    path: '/.well-known/jwks.json',
    summary: 'The public keys that verify the callbacks to an endpoint now',
    description:
      'Of one endpoint alone: whoever has an account can sign with a key of their own (docs/decisions/0017).',
    security: [],
    request: { query: z.strictObject({ endpoint_id: idSchema('ep') }) },
    responses: {
      200: {
        description: 'A JWK set (RFC 7517, 8037), newest first. Empty when nothing signs with ed25519.',
        content: { 'application/jwk-set+json': { schema: keySetSchema } },
      },
      ...openProblems(400),
    },
  });
  return new OpenAPIHono<Env>({ defaultHook: onInvalid }).openapi(keySet, async (c) => {
    const keys = await secrets.publicKeys(c.req.valid('query').endpoint_id);
    return c.body(JSON.stringify({ keys: keys.map(viewKey) }), 200, {
      'content-type': 'application/jwk-set+json',
      'cache-control': `public, max-age=${KEYS_MAX_AGE_S}`,
    }) as never;
  });
}

function viewRotated({ sealed: { id, scheme, publicKey }, shown, graceEndsAt }: RotatedSecret) {
  return {
    id,
    scheme,
    ...(shown !== undefined && { signing_secret: shown }),
    ...(publicKey !== null && { public_key: formatPublicKey(publicKey) }),
    old_secrets_sign_until: graceEndsAt,
  };
}

function viewSecret({ id, scheme, publicKey, createdAt, expiresAt }: SecretRecord) {
  return {
    id,
    scheme,
    public_key: publicKey && formatPublicKey(publicKey),
    created_at: createdAt,
    expires_at: expiresAt,
  };
}

function viewKey({ id, publicKey }: PublicKeyRecord) {
  const x = Buffer.from(publicKey).toString('base64url');
  return { kty: 'OKP', crv: 'Ed25519', x, kid: id, use: 'sig', alg: 'EdDSA' };
}
