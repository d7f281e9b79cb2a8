import { hash, randomBytes } from 'node:crypto';

/** `worker` may claim and finish runs of every account: for the platform owner's own workers, not for clients. */
export const API_KEY_SCOPES = ['read', 'write', 'worker'] as const;
export type ApiKeyScope = (typeof API_KEY_SCOPES)[number];

const FORM = /^rbk_[A-Za-z0-9_-]{8,200}$/;

/** `rbk_` and 32 random bytes in base64url. */
export function newApiKey(): string {
  return `rbk_${randomBytes(32).toString('base64url')}`;
}

export function isApiKey(text: string): boolean {
  return FORM.test(text);
}

/** All that is stored of a key, beside its last four characters. Its 256 random bits need no salt and no slow hash. */
export function hashApiKey(key: string): Buffer {
  return hash('sha256', key, 'buffer');
}
