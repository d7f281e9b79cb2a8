import type { SecretKey } from '#domain/secret-box.ts';
import type { Database } from '#store/database.ts';
import { findKeysInUse, type KeyInUse } from '#store/secret-keys.ts';

/**
 * What to say to the operator when secrets are stored that none of `keys` opens; undefined when all can be opened. Asked before
 * anything is sent or sealed: callbacks would wait unsigned, and a second key would be in use that the other processes lack.
 * @param where the keys came from, for the operator
 */
export async function explainMissingKeys(
  db: Database,
  keys: readonly SecretKey[],
  where: string,
): Promise<string | undefined> {
  const known = new Set(keys.map(({ id }) => id));
  const missing = Map.groupBy(
    (await findKeysInUse(db)).filter(({ keyId }) => !known.has(keyId)),
    ({ keyId }) => keyId,
  );
  if (missing.size === 0) return undefined;
  const lines = Array.from(missing, ([keyId, uses]) => `  ${keyId}: ${listed(uses)}`);
  return (
    `${where} does not hold every key that this database needs (it holds ${[...known].join(', ')}). Missing, by id:\n` +
    `${lines.join('\n')}\n` +
    `Put the missing key back, beside the others and separated by commas: all of them decrypt, the first encrypts. ` +
    `If it is lost, docs/guides/secret-key.md says what to do.`
  );
}

function listed(uses: readonly KeyInUse[]): string {
  return uses.map(({ kind }) => kind).join(', ');
}
