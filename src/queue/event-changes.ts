import type { AccountId } from '#domain/ids.ts';
import { Changes, type ChangesDeps } from './changes.ts';

/** Which accounts have new events, as who follows a feed wants to know. */
export class EventChanges extends Changes {
  constructor(deps: ChangesDeps) {
    super('ringback_events', deps);
  }

  /** Call after the commit that wrote the events. */
  publish(accountIds: readonly AccountId[]): void {
    this.publishIds(accountIds);
  }
}
