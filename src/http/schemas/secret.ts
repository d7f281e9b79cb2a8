import { z } from '@hono/zod-openapi';
import { MAX_ROTATION_GRACE_MS } from '#callbacks/secrets.ts';
import { SIGNATURE_SCHEMES } from '#domain/signature.ts';
import { timestamp } from './common.ts';

const scheme = z.enum(SIGNATURE_SCHEMES).openapi({ description: '`v1`: HMAC-SHA256. `v1a`: ed25519.' });

const publicKey = z
  .string()
  .openapi({ description: 'Of `v1a`: `whpk_...`.', example: 'whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=' });

/** Of a new endpoint, or of a rotation. What a secret must be, `domain/signing-secret.ts` says. */
export const newSecretMembers = {
  scheme: scheme.optional(),
  signing_secret: z.string().max(200).optional().openapi({
    description:
      'Your own: `whsec_` and the base64 of 24 to 64 random bytes, or `whsk_` and that of an ed25519 private key.',
  }),
};

export const rotationSchema = z
  .strictObject({
    ...newSecretMembers,
    grace_ms: z.int().min(0).max(MAX_ROTATION_GRACE_MS).optional().openapi({
      description: 'How long the old secrets sign beside the new one. 0 ends them at once. A day when left out.',
    }),
  })
  .openapi('Rotation');

export const rotatedSecretSchema = z
  .object({
    id: z.string(),
    scheme,
    signing_secret: z.string().optional().openapi({ description: 'Unless you brought your own.' }),
    public_key: publicKey.optional(),
    old_secrets_sign_until: timestamp(),
  })
  .openapi('RotatedSecret');

export const secretSchema = z
  .object({
    id: z.string().openapi({ description: 'As `signed_by` of an attempt and `kid` of the key set have it.' }),
    scheme,
    public_key: publicKey.nullable(),
    created_at: timestamp(),
    expires_at: timestamp().nullable().openapi({ description: 'From then on it signs no more.' }),
  })
  .openapi('Secret');

/** RFC 7517, with the keys of RFC 8037. */
export const keySetSchema = z
  .object({
    keys: z.array(
      z.object({
        kty: z.literal('OKP'),
        crv: z.literal('Ed25519'),
        x: z.string(),
        kid: z.string(),
        use: z.literal('sig'),
        alg: z.literal('EdDSA'),
      }),
    ),
  })
  .openapi('KeySet');
