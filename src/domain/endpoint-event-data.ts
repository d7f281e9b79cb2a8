import type { EndpointEventType } from './endpoint-event.ts';
import type { DisabledReason } from './endpoint-policy.ts';

type NothingMore = Readonly<Record<string, never>>;

/** What a callback says in `data` besides `endpoint`, as receivers read it. */
export interface EndpointEventData extends Record<EndpointEventType, object> {
  readonly 'endpoint.disabled': { readonly reason: DisabledReason };
  readonly 'endpoint.recovered': NothingMore;
  readonly 'endpoint.ping': NothingMore;
  readonly 'endpoint.challenge': { readonly challenge: string };
  readonly 'delivery.exhausted': {
    readonly delivery: {
      readonly id: string;
      readonly event_id: string;
      /** Null for what was no job's event. */
      readonly job_id: string | null;
      readonly attempts: number;
      /** `error_code` of the last attempt. */
      readonly last_error: string | null;
    };
  };
}
