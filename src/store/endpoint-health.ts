import type { Health } from '#domain/circuit.ts';
import type { AccountId, EndpointId } from '#domain/ids.ts';
import type { Connection, Transaction } from './database.ts';

export interface EndpointRef {
  readonly accountId: AccountId;
  readonly endpointId: EndpointId;
}

export type EndpointHealth = EndpointRef & Health;

/** Their health, for whoever is about to change it: until the transaction ends nobody else does. In one order always. */
export async function lockHealth(tx: Transaction, endpoints: readonly EndpointRef[]): Promise<EndpointHealth[]> {
  return tx<EndpointHealth[]>`
    SELECT health.account_id AS "accountId", health.endpoint_id AS "endpointId", circuit, resume_at AS "resumeAt", allowance,
      level, consecutive_failures AS "consecutiveFailures", failing_since AS "failingSince",
      last_success_at AS "lastSuccessAt", last_failure_at AS "lastFailureAt"
    FROM json_to_recordset(${JSON.stringify(endpoints)}::text::json) AS endpoint ("accountId" text, "endpointId" text)
    JOIN ringback.endpoint_health AS health
      ON health.account_id = endpoint."accountId" AND health.endpoint_id = endpoint."endpointId"
    WHERE endpoint."endpointId" LIKE 'ep\\_%' -- FEW_ROWS: see database.ts
    ORDER BY health.account_id, health.endpoint_id
    FOR UPDATE OF health`;
}

export async function writeHealth(sql: Connection, healths: readonly EndpointHealth[]): Promise<void> {
  await sql`
    UPDATE ringback.endpoint_health AS health SET
      circuit = new.circuit, resume_at = new."resumeAt", allowance = new.allowance, level = new.level,
      consecutive_failures = new."consecutiveFailures", failing_since = new."failingSince",
      last_success_at = new."lastSuccessAt", last_failure_at = new."lastFailureAt"
    FROM json_to_recordset(${JSON.stringify(healths)}::text::json) AS new (
      "accountId" text, "endpointId" text, circuit text, "resumeAt" timestamptz, allowance int, level smallint,
      "consecutiveFailures" int, "failingSince" timestamptz, "lastSuccessAt" timestamptz, "lastFailureAt" timestamptz)
    WHERE health.account_id = new."accountId" AND health.endpoint_id = new."endpointId"
      AND new."endpointId" LIKE 'ep\\_%' -- FEW_ROWS`;
}

/** Of endpoints that keep their order: what is first there is not tried again before. */
export async function blockLanes(
  sql: Connection,
  lanes: ReadonlyArray<EndpointRef & { readonly until: Date }>,
): Promise<void> {
  await sql`
    UPDATE ringback.endpoint_lanes AS lane SET blocked_until = blocked.until
    FROM json_to_recordset(${JSON.stringify(lanes)}::text::json) AS blocked (
      "accountId" text, "endpointId" text, until timestamptz)
    WHERE lane.account_id = blocked."accountId" AND lane.endpoint_id = blocked."endpointId"
      AND blocked."endpointId" LIKE 'ep\\_%' -- FEW_ROWS`;
}

/** The health of the row `health`, as JSON: see `withDates`. */
export const healthJson = (sql: Connection) => sql`
  json_build_object('circuit', health.circuit, 'resumeAt', health.resume_at, 'allowance', health.allowance,
    'level', health.level, 'consecutiveFailures', health.consecutive_failures, 'failingSince', health.failing_since,
    'lastSuccessAt', health.last_success_at, 'lastFailureAt', health.last_failure_at)`;

const TIMES = ['resumeAt', 'failingSince', 'lastSuccessAt', 'lastFailureAt'] as const satisfies Array<keyof Health>;

/** Health as PostgreSQL writes it as JSON, which knows no dates. */
export function withDates(health: object): Health {
  const known = health as Health;
  const dates = TIMES.map((name) => [name, known[name] === null ? null : new Date(known[name])]);
  return { ...known, ...Object.fromEntries(dates) };
}
