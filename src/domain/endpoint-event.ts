/** Facts about endpoints and deliveries, for the endpoints of the account that subscribe to them. */
export const ENDPOINT_EVENT_TYPES = [
  'endpoint.disabled',
  'endpoint.recovered', // enabled again, or healthy after its circuit was open
  'endpoint.ping', // asked for, to try an endpoint out; goes to that one only
  'endpoint.challenge', // to be echoed by whoever owns the endpoint; goes to that one only
  'delivery.exhausted',
] as const;
export type EndpointEventType = (typeof ENDPOINT_EVENT_TYPES)[number];
